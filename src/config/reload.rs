//! Which settings a running server takes over anew, and which need a restart.

use super::{Config, SETTINGS, Setting};

/// Sections that are taken over anew.
const LIVE_SECTIONS: [&str; 9] =
    ["log", "publish", "tokens", "hook", "cors", "poll", "sse", "limits", "turn"];
/// Settings that are.
const LIVE: [&str; 9] = [
    "heartbeat",
    "drain_seconds",
    "upgrade_seconds",
    "channel_idle_seconds",
    "presence_seconds",
    "techniques_off",
    "trusted_proxies",
    "tls.certificate",
    "tls.key",
];
/// Settings of these sections that are not: what they bound was laid out when the server started.
const FIXED: [&str; 7] = [
    "limits.revocations",
    "limits.tokens_remembered",
    "limits.memory",
    "limits.tombstones",
    "limits.fdajax_head_bytes",
    "limits.fdajax_guests",
    "limits.fdajax_guest_seconds",
];

/// What a reload comes to.
#[derive(Debug)]
pub struct Reloaded {
    /// The settings from now on.
    pub config: Config,
    /// Names of settings that have changed and count from now on.
    pub changed: Vec<&'static str>,
    /// Names of settings that have changed and would need a restart.
    pub restart: Vec<&'static str>,
}

/// The settings `running`, with what may change while the server runs taken from `read`.
pub fn reload(running: &Config, read: &Config) -> Reloaded {
    let mut config = running.clone();
    let (mut changed, mut restart) = (Vec::new(), Vec::new());
    for setting in SETTINGS {
        if is_live(setting) {
            changed.extend((setting.copy)(&mut config, read).then_some(setting.name));
        } else {
            restart.extend((setting.copy)(&mut running.clone(), read).then_some(setting.name));
        }
    }
    changed.extend((running.channels != read.channels).then_some("channels"));
    changed.extend((running.token_keys != read.token_keys).then_some("tokens.keys"));
    config.channels.clone_from(&read.channels);
    config.token_keys.clone_from(&read.token_keys);
    Reloaded { config, changed, restart }
}

fn is_live(setting: &Setting) -> bool {
    let of_section = setting.section.is_some_and(|section| LIVE_SECTIONS.contains(&section.name));
    (of_section && !FIXED.contains(&setting.name)) || LIVE.contains(&setting.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ChannelRule;

    #[test]
    fn what_may_change_does_and_the_rest_is_named() {
        let running = Config::default();
        let mut read = Config { heartbeat: 3, demo: true, ..Config::default() };
        read.limits.message_bytes = 5;
        read.limits.memory = 1 << 30;
        read.publish.token = vec!["secret".into()];
        read.bayeux.sessions = 1;
        let Reloaded { config, changed, restart } = reload(&running, &read);
        assert_eq!(changed, ["heartbeat", "publish.token", "limits.message_bytes"]);
        assert_eq!(restart, ["demo", "bayeux.sessions", "limits.memory"]);
        assert_eq!((config.heartbeat, config.demo, config.limits.message_bytes), (3, false, 5));
        let again = reload(&config, &read);
        assert!(again.changed.is_empty() && again.restart == restart);
        let rule = ChannelRule { pattern: "**".into(), ..ChannelRule::default() };
        let ruled = Config { channels: vec![rule], ..config.clone() };
        let with_rules = reload(&config, &ruled);
        assert_eq!((with_rules.changed, with_rules.config.channels.len()), (vec!["channels"], 1));
    }

    #[test]
    fn every_name_is_that_of_a_setting() {
        for name in LIVE.iter().chain(&FIXED) {
            assert!(Setting::find(name).is_some(), "{name}");
        }
        for name in LIVE_SECTIONS {
            assert!(
                SETTINGS.iter().any(|setting| setting.section.is_some_and(|it| it.name == name)),
                "{name}"
            );
        }
    }
}
