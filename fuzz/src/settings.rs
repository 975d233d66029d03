//! Configuration files: what is wrong is told with its line; what is right, printed and read again, is the same.

use encke::config::{self, File, Sources};

/// Checks a file.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for problem in config::check(File { name: "a.toml", text }) {
        let line = problem.place.split(':').nth(1).and_then(|line| line.parse::<usize>().ok());
        assert!(line.is_some_and(|line| line >= 1 && line <= text.lines().count().max(1) + 1), "{problem}");
        assert!(!problem.text.is_empty());
    }
    let Ok(loaded) = load(text) else { return };
    let printed = config::toml(&loaded);
    let again =
        load(&printed).unwrap_or_else(|problems| panic!("{problems:?} in what was printed:\n{printed}"));
    let (mut loaded, mut again) = (loaded.config, again.config);
    // Secrets are not printed.
    for config in [&mut loaded, &mut again] {
        config.publish.token.clear();
        config.fdajax.admin_password = None;
    }
    assert_eq!(loaded, again, "printed and read again, it differs");
}

fn load(text: &str) -> Result<config::Loaded, Vec<config::Problem>> {
    let environment = |_: &str| None;
    config::load(&Sources {
        options: &[],
        environment: &environment,
        file: Some(File { name: "a.toml", text }),
    })
}
