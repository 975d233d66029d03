use clap::FromArgMatches;

use super::*;

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from([&["encke"], args].concat())?;
    Cli::from_arg_matches(&matches)
}

/// What `encke serve` would run with, without an environment.
fn config(args: &[&str]) -> crate::config::Config {
    let cli = parse(args).unwrap();
    let Command::Serve(options) = cli.command.unwrap_or(Command::Serve(cli.serve)) else {
        panic!("{args:?} is not serve");
    };
    options.load_from(&|_| None).unwrap().config
}

#[test]
fn the_parser_is_sound() {
    command().debug_assert();
}

#[test]
fn serve_is_what_happens_without_a_command() {
    assert_eq!(config(&[]), crate::config::Config::default());
    for prefix in [&[][..], &["serve"]] {
        let config =
            config(&[prefix, &["--listen", "9000", "--demo", "--limits-message-bytes=2MiB"]].concat());
        assert_eq!((config.listen.port(), config.demo, config.limits.message_bytes), (9000, true, 2 << 20));
    }
    assert!(!config(&["--demo=false"]).demo);
    assert!(parse(&["--listen", "9000", "config"]).is_err());
    assert!(parse(&["--publish-token", "a"]).is_err());
    assert!(parse(&["--heartbeat", "1", "--heartbeat", "2"]).is_err());
}

#[test]
fn help_of_serve_lists_every_setting_and_the_first_help_stays_short() {
    let mut command = command();
    let first = command.render_long_help().to_string();
    assert!(first.lines().count() < 50, "{first}");
    let serve = command.find_subcommand_mut("serve").unwrap().render_long_help().to_string();
    for option in crate::config::SETTINGS.iter().filter_map(|setting| setting.option()) {
        assert!(serve.contains(&format!("--{option}")), "{option}");
    }
}
