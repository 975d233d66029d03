//! The command line: what `encke` can be asked to do, and the only place that decides its exit code
//! (0 fine, 1 failed, 2 the command line was wrong).

mod backup;
mod client;
mod config;
mod host;
mod logging;
mod process;
mod publish;
mod reload;
mod serve;
mod settings;
mod status;
mod store;
mod subscribe;
mod system;
#[cfg(test)]
mod tests;
pub mod token;
mod upgrade;
mod why;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use settings::Options;

/// The version, and the commit it was built from where that is known.
const VERSION: &str = env!("VERSION_AND_COMMIT");

const EXAMPLES: &str = "\
Examples:
  encke --demo                         serve http://127.0.0.1:8080 with live market data
  encke --listen 0.0.0.0:80 --config encke.toml
  encke sub 'stocks/*'                 print messages as they come, resume by itself
  encke pub stocks/AAPL 189.30         publish one message
  tail -f app.log | encke pub logs     publish every line as it comes
  encke token --key app.key --subscribe 'chat/*' --subject alice --expires 1h
  encke config > encke.toml            every setting with its meaning, as a file to edit
  encke config --check encke.toml      find mistakes before the server does

Every setting is an option (encke serve --help), an environment variable and a line of the file.";

/// Pushes messages to browsers over long polling and HTTP streaming.
#[derive(Parser)]
#[command(
    name = "encke",
    version = VERSION,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    override_usage = "encke [serve] [OPTIONS]\n       encke pub|sub|status|why|token|config|reload|upgrade|store|backup [OPTIONS] …",
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (what happens without a command, too); lists every setting in its help
    Serve(Options),
    /// Publish messages: from the arguments, or every line of standard input
    Pub(publish::PublishArgs),
    /// Print the messages of channels as they come
    Sub(subscribe::SubscribeArgs),
    /// Make a token that says what its bearer may do, or say what one grants
    Token(token::TokenArgs),
    /// Show how a running server does, on one screen
    Status(status::StatusArgs),
    /// Show everything a running server knows of one live connection
    Why(why::WhyArgs),
    /// Have a running server read its settings anew
    Reload(reload::ReloadArgs),
    /// Have a running server hand over to the program that is installed now, and nobody notices
    Upgrade(upgrade::UpgradeArgs),
    /// Print every setting, its value and its meaning, or check a file
    Config(config::ConfigArgs),
    /// Copy the history on disk to a file, while its server runs
    Backup(backup::BackupArgs),
    /// Check, compact, rename or print the history on disk of a server that does not run
    Store(store::StoreArgs),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let matches = command().try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. When nobody reads them there is nothing left to tell.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(options) => {
            settings::warn_of_variables();
            match options.load() {
                Ok(loaded) => serve::run(loaded, options),
                Err(problems) => settings::report(&problems),
            }
        }
        Command::Pub(args) => publish::run(&args),
        Command::Sub(args) => subscribe::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Backup(args) => backup::run(&args),
    }
}

/// The parser. The settings fill only the help of `serve`; elsewhere they work but are not listed, so that
/// the help fits a screen.
pub fn command() -> clap::Command {
    let named = |arg: &clap::Arg, names: &[&str]| names.contains(&arg.get_id().as_str());
    let first = move |arg: clap::Arg| match named(&arg, &["config", "listen", "demo"]) {
        true => arg.help_heading("Serve"),
        false => arg.hide(true),
    };
    let config = move |arg: clap::Arg| {
        let shown = named(&arg, &["config", "check"]);
        arg.hide(!shown)
    };
    let reload = move |arg: clap::Arg| {
        let shown = named(&arg, &["config", "pid", "pid_file"]);
        arg.hide(!shown)
    };
    let store = move |arg: clap::Arg| {
        let shown = named(&arg, &["action", "file", "rate", "config", "store.dir", "store-dir", "store_dir"]);
        arg.hide(!shown)
    };
    Cli::command()
        .mut_args(first)
        .mut_subcommand("config", |command| command.mut_args(config))
        .mut_subcommand("reload", |command| command.mut_args(reload))
        .mut_subcommand("upgrade", |command| command.mut_args(reload))
        .mut_subcommand("store", |command| command.mut_args(store))
        .mut_subcommand("backup", |command| command.mut_args(store))
}

/// Prints a result to standard output. A reader that went away (`| head`) is no failure.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("encke: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
