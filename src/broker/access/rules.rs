//! The rules of channels, and the judge.
//!
//! The first rule whose pattern matches a channel's name holds for it. A pattern to subscribe to is judged as a whole:
//! in order, every rule that *meets* it (that some channel of it could fall under) must allow it, until the first that
//! covers it. That is linear and errs on refusing.

use super::{Action, Grant, Word};
use crate::config::{Config, DEMO_CHAT, Shows, Who};
use crate::hub::{PRESENCE, Pattern, covers, meets};
use std::rc::Rc;

/// The channels of FDAjax's users: what is for one of them is nobody else's to read.
const PRIVATE: &str = "fdajax/users/*";

/// All channels of the demo.
const DEMO: &str = "demo/**";

/// The rules of a server.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Built-in ones first, so that none of the file opens what they close.
    rules: Vec<Rule>,
    /// Whether there is a publish token that somebody could show.
    has_publish_token: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Box<str>,
    subscribe: Who,
    publish: Option<Who>,
    shows: Shows,
    /// Made by us: what is ours to close is open to the loopback rule as it always was.
    built_in: bool,
}

/// Who asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bearer<'a> {
    /// Somebody who shows a publish token, and may do everything everywhere.
    pub publisher: bool,
    /// A loopback peer, where there is no publish token. That counts for publishing where a rule asks for publishers, and
    /// for the built-in rules.
    pub local: bool,
    /// What was granted to them.
    pub grant: Option<&'a Grant>,
    /// What the application has granted to them, by which they listen.
    pub held: Option<&'a Grant>,
    /// What the application has just said about what they ask for.
    pub said: &'a [Rc<Word>],
}

impl Bearer<'_> {
    /// What the application says to `item`, a name or a pattern. It is asked about names only: it may compare them in
    /// another way than we do.
    fn hears(self, action: Action, item: &str) -> Verdict {
        if action == Action::Subscribe && self.held.is_some_and(|held| held.may_subscribe(item)) {
            return Verdict::Allowed;
        }
        match self.said.iter().find_map(|word| word.allows(action, item)) {
            Some(true) => Verdict::Allowed,
            Some(false) => Verdict::Refused,
            None if matches!(Pattern::parse(item.as_bytes()), Ok(None)) => Verdict::Unheard,
            None => Verdict::Forbidden,
        }
    }

    /// Who it is, if a token or the application says so.
    pub fn subject(&self) -> Option<&str> {
        let said = self.said.first().map(|word| &*word.grant);
        let grant = self.grant.or(said).or(self.held);
        grant.and_then(|grant| grant.subject.as_deref())
    }

    /// Whether `item`, or some channel of it, was taken from them, or is nothing for a guest of the demo. That holds for
    /// channels of everybody, too: a guest has chosen a name, which must mean nothing where others have one.
    fn lacks(self, item: &str) -> bool {
        let is_astray = |grant: &Grant| grant.is_guest && !DEMO_CHAT.iter().any(|room| covers(room, item));
        [self.grant, self.held].into_iter().flatten().any(|grant| grant.lacks(item) || is_astray(grant))
    }
}

/// What the judge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is allowed.
    Allowed,
    /// It is not, and a token could help.
    Unidentified,
    /// It is not.
    Forbidden,
    /// The rules leave it to what holds without rules.
    Unsaid,
    /// The application has to be asked.
    Unheard,
    /// The application says no.
    Refused,
}

impl Rules {
    /// The rules of the settings.
    pub fn new(config: &Config) -> Self {
        let private = config.fdajax.enabled.then(|| Rule {
            pattern: PRIVATE.into(),
            subscribe: Who::Publishers,
            publish: None,
            shows: Shows::Nobody,
            built_in: true,
        });
        // The demo is for everybody who finds it, by whatever name and through whatever proxy. Everybody can be a guest, so
        // who is in its rooms is no secret.
        let [lobby, rooms] = DEMO_CHAT.map(|pattern| (pattern, Some(Who::Anyone), Shows::Everybody));
        let demo = [lobby, rooms, (DEMO, None, Shows::Nobody)].map(|(pattern, publish, shows)| Rule {
            pattern: pattern.into(),
            subscribe: Who::Anyone,
            publish,
            shows,
            built_in: true,
        });
        let demo = demo.into_iter().filter(|_| config.demo);
        let written = config.channels.iter().map(|rule| Rule {
            pattern: rule.pattern.as_str().into(),
            subscribe: rule.subscribe,
            publish: rule.publish,
            shows: rule.presence,
            built_in: false,
        });
        let rules = private.into_iter().chain(demo).chain(written).collect();
        Self { rules, has_publish_token: !config.publish.token.is_empty() }
    }

    /// Whether there is nothing to judge: whoever asks may subscribe to everything.
    pub fn is_open(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `who` may subscribe to `item`, a name or a pattern.
    pub fn subscribe(&self, who: Bearer<'_>, item: &str) -> Verdict {
        if who.publisher {
            return Verdict::Allowed;
        }
        if let Some(told_of) = self.told_of(item) {
            return self.look_on(who, told_of);
        }
        if who.lacks(item) {
            return Verdict::Forbidden;
        }
        for rule in self.rules.iter().filter(|rule| meets(&rule.pattern, item)) {
            let allowed = match rule.subscribe {
                Who::Anyone => true,
                Who::Token => who.grant.is_some_and(|grant| grant.may_subscribe(item)),
                Who::Publishers => rule.built_in && who.local,
                Who::Hook => match who.hears(Action::Subscribe, item) {
                    Verdict::Allowed => true,
                    verdict => return verdict,
                },
            };
            if !allowed {
                return self.refusal(who, rule.subscribe);
            }
            if covers(&rule.pattern, item) {
                break;
            }
        }
        Verdict::Allowed
    }

    /// What a channel or a pattern of channels tells of that show who is on others: the channels themselves.
    pub fn told_of<'i>(&self, item: &'i str) -> Option<&'i str> {
        let told_of = item.strip_prefix(PRESENCE)?;
        self.shows(told_of).any(|shows| shows != Shows::Nobody).then_some(told_of)
    }

    /// What the rules that reach `item` show.
    fn shows(&self, item: &str) -> impl Iterator<Item = Shows> {
        let mut is_covered = false;
        let reaching = self.rules.iter().filter(move |rule| meets(&rule.pattern, item));
        reaching
            .take_while(move |rule| !std::mem::replace(&mut is_covered, covers(&rule.pattern, item)))
            .map(|rule| rule.shows)
    }

    /// Whether it shows who is on the channel `name`, and to whom.
    pub fn presence(&self, name: &str) -> Shows {
        self.shows(name).last().unwrap_or_default()
    }

    /// Whether `who` may know who is on `item`: who may subscribe there, and has a subject, unless all may know.
    fn look_on(&self, who: Bearer<'_>, item: &str) -> Verdict {
        match self.subscribe(who, item) {
            Verdict::Allowed | Verdict::Unsaid => {}
            refusal => return refusal,
        }
        let is_shown = |shows: Shows| match shows {
            Shows::Nobody => false,
            Shows::Subjects => who.subject().is_some(),
            Shows::Everybody => true,
        };
        if self.shows(item).all(is_shown) { Verdict::Allowed } else { Verdict::Forbidden }
    }

    /// Whether `who` may publish to the channel `name`. [`Verdict::Unsaid`] if no rule says who may.
    pub fn publish(&self, who: Bearer<'_>, name: &str) -> Verdict {
        if self.told_of(name).is_some() {
            return Verdict::Forbidden;
        }
        if who.publisher {
            return Verdict::Allowed;
        }
        match self.publishers(name) {
            _ if who.lacks(name) => Verdict::Forbidden,
            None => Verdict::Unsaid,
            Some(Who::Anyone) => Verdict::Allowed,
            Some(Who::Hook) => who.hears(Action::Publish, name),
            Some(Who::Publishers) if who.local => Verdict::Allowed,
            Some(Who::Token) if who.grant.is_some_and(|grant| grant.may_publish(name)) => Verdict::Allowed,
            Some(asked) => self.refusal(who, asked),
        }
    }

    /// Who may publish to a channel, if a rule says so.
    pub fn publishers(&self, name: &str) -> Option<Who> {
        self.rules.iter().find(|rule| covers(&rule.pattern, name))?.publish
    }

    /// Who may listen to a channel.
    pub fn listeners(&self, name: &str) -> Who {
        self.rules.iter().find(|rule| covers(&rule.pattern, name)).map_or(Who::Anyone, |rule| rule.subscribe)
    }

    /// The patterns of all rules in order, each with whether everybody may listen.
    pub fn shown(&self) -> Vec<(Box<str>, bool)> {
        self.rules.iter().map(|rule| (rule.pattern.clone(), rule.subscribe == Who::Anyone)).collect()
    }

    /// Whether some rule may let somebody publish who shows nothing.
    pub fn is_publishable(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.publish, Some(Who::Anyone | Who::Hook)))
    }

    /// Whether the application is asked about some channels.
    pub fn asks(&self) -> bool {
        self.rules.iter().any(|rule| rule.subscribe == Who::Hook || rule.publish == Some(Who::Hook))
    }

    /// The patterns of rules that no channel reaches, as an earlier one covers them, which is told, too.
    pub fn unreachable(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let written = || self.rules.iter().filter(|rule| !rule.built_in);
        written().enumerate().filter_map(move |(row, rule)| {
            let earlier = written().take(row).find(|earlier| covers(&earlier.pattern, &rule.pattern))?;
            Some((row, &*rule.pattern, &*earlier.pattern))
        })
    }

    /// How `who` is refused where `asked` is what a rule asks for.
    fn refusal(&self, who: Bearer<'_>, asked: Who) -> Verdict {
        let helps = asked == Who::Token || self.has_publish_token;
        match helps && who.grant.is_none() {
            true => Verdict::Unidentified,
            false => Verdict::Forbidden,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ChannelRule, Fdajax};

    fn rules(rows: &[(&str, Who, Option<Who>)]) -> Rules {
        let row = |&(pattern, subscribe, publish): &(&str, Who, Option<Who>)| ChannelRule {
            pattern: pattern.into(),
            subscribe,
            publish,
            ..ChannelRule::default()
        };
        Rules::new(&Config { channels: rows.iter().map(row).collect(), ..Config::default() })
    }

    fn grant(subscribe: &[&str], publish: &[&str]) -> Grant {
        let boxed = |items: &[&str]| items.iter().map(|item| (*item).into()).collect();
        Grant { subscribe: boxed(subscribe), publish: boxed(publish), ends: u64::MAX, ..Grant::default() }
    }

    const NOBODY: Bearer<'_> = Bearer { publisher: false, local: true, grant: None, held: None, said: &[] };
    const PUBLISHER: Bearer<'_> = Bearer { publisher: true, local: false, ..NOBODY };

    #[test]
    fn the_first_rule_that_matches_holds() {
        let rules = rules(&[
            ("news/internal", Who::Token, Some(Who::Token)),
            ("news/*", Who::Anyone, None),
            ("ops/**", Who::Publishers, Some(Who::Publishers)),
            ("open/**", Who::Anyone, Some(Who::Anyone)),
            ("**", Who::Token, None),
        ]);
        let grant = grant(&["news/internal", "chat/*", "ops/**"], &["news/internal", "chat/a"]);
        let bearer = Bearer { grant: Some(&grant), ..NOBODY };
        let subscribe = |who, item, verdict| assert_eq!(rules.subscribe(who, item), verdict, "{item}");
        subscribe(NOBODY, "news/a", Verdict::Allowed);
        subscribe(NOBODY, "news/internal", Verdict::Unidentified);
        subscribe(bearer, "news/internal", Verdict::Allowed);
        subscribe(bearer, "chat/a", Verdict::Allowed);
        subscribe(bearer, "chat/a/b", Verdict::Forbidden);
        // A rule for publishers is not opened by a token, nor by the loopback rule.
        subscribe(bearer, "ops/a", Verdict::Forbidden);
        subscribe(NOBODY, "ops/a", Verdict::Forbidden);
        subscribe(PUBLISHER, "ops/a", Verdict::Allowed);
        subscribe(PUBLISHER, "**", Verdict::Allowed);

        let publish = |who, name, verdict| assert_eq!(rules.publish(who, name), verdict, "{name}");
        publish(NOBODY, "news/internal", Verdict::Unidentified);
        publish(bearer, "news/internal", Verdict::Allowed);
        publish(bearer, "news/a", Verdict::Unsaid);
        publish(NOBODY, "open/a", Verdict::Allowed);
        publish(NOBODY, "ops/a", Verdict::Allowed);
        publish(Bearer { local: false, ..NOBODY }, "ops/a", Verdict::Forbidden);
        publish(PUBLISHER, "ops/a", Verdict::Allowed);
        publish(bearer, "elsewhere", Verdict::Unsaid);
    }

    #[test]
    fn a_pattern_needs_every_rule_that_it_meets_until_one_covers_it() {
        let rules = rules(&[
            ("docs/*/draft", Who::Token, None),
            ("docs/**", Who::Anyone, None),
            ("**", Who::Publishers, None),
        ]);
        let subscribe = |who, item, verdict| assert_eq!(rules.subscribe(who, item), verdict, "{item}");
        subscribe(NOBODY, "docs/*/public", Verdict::Allowed);
        subscribe(NOBODY, "docs/a/*", Verdict::Unidentified);
        subscribe(NOBODY, "docs/**", Verdict::Unidentified);
        subscribe(NOBODY, "docs/*", Verdict::Allowed);
        subscribe(NOBODY, "*/x", Verdict::Forbidden);
        let everything = grant(&["**"], &[]);
        let bearer = Bearer { grant: Some(&everything), ..NOBODY };
        subscribe(bearer, "docs/a/*", Verdict::Allowed);
        subscribe(bearer, "**", Verdict::Forbidden);
        // Two that together include the asked one are not enough: one must.
        let halves = grant(&["docs/a/draft", "docs/b/draft"], &[]);
        subscribe(Bearer { grant: Some(&halves), ..NOBODY }, "docs/*/draft", Verdict::Forbidden);
        subscribe(Bearer { grant: Some(&halves), ..NOBODY }, "docs/a/draft", Verdict::Allowed);
    }

    #[test]
    fn built_in_rules_come_first_and_are_opened_by_nothing_written() {
        let row = ChannelRule {
            pattern: "**".into(),
            subscribe: Who::Token,
            publish: Some(Who::Anyone),
            ..ChannelRule::default()
        };
        let fdajax = Fdajax { enabled: true, ..Fdajax::default() };
        let rules = Rules::new(&Config { channels: vec![row], fdajax, ..Config::default() });
        let everything = grant(&["**"], &["**"]);
        let bearer = Bearer { grant: Some(&everything), ..Bearer::default() };
        for item in ["fdajax/users/1", "fdajax/users/*", "**", "*/*/*"] {
            assert_eq!(rules.subscribe(bearer, item), Verdict::Forbidden, "{item}");
            assert_eq!(rules.subscribe(PUBLISHER, item), Verdict::Allowed, "{item}");
        }
        assert_eq!(rules.subscribe(bearer, "fdajax/groups/a"), Verdict::Allowed);
        assert_eq!(rules.publish(bearer, "fdajax/users/1"), Verdict::Unsaid);
    }

    #[test]
    fn the_demo_is_open_to_everybody_and_nothing_else_is() {
        let row = ChannelRule { pattern: "**".into(), subscribe: Who::Publishers, ..ChannelRule::default() };
        let config = Config { demo: true, channels: vec![row], ..Config::default() };
        let rules = Rules::new(&config);
        for (name, listens, speaks) in [
            ("demo/ticks", Verdict::Allowed, Verdict::Unsaid),
            ("demo/**", Verdict::Allowed, Verdict::Unsaid),
            ("demo/chat/lobby", Verdict::Allowed, Verdict::Allowed),
            ("demo/chat", Verdict::Allowed, Verdict::Allowed),
            ("demo/chats", Verdict::Allowed, Verdict::Unsaid),
            ("demo", Verdict::Forbidden, Verdict::Unsaid),
            ("**", Verdict::Forbidden, Verdict::Unsaid),
        ] {
            assert_eq!(
                (rules.subscribe(NOBODY, name), rules.publish(NOBODY, name)),
                (listens, speaks),
                "{name}"
            );
        }
        assert!(rules.unreachable().next().is_none());
        assert!(Rules::new(&Config::default()).is_open());
    }

    #[test]
    fn a_guest_of_the_demo_is_one_in_its_chat_and_nowhere_else() {
        let row = |pattern: &str, subscribe, presence| ChannelRule {
            pattern: pattern.into(),
            subscribe,
            publish: Some(Who::Anyone),
            presence,
            ..ChannelRule::default()
        };
        let channels = vec![
            row("open/**", Who::Anyone, Shows::Everybody),
            row("asked/**", Who::Hook, Shows::Nobody),
            row("**", Who::Token, Shows::Subjects),
        ];
        let rules = Rules::new(&Config { demo: true, channels, ..Config::default() });
        // Whatever a key may have granted.
        let guest = Grant { is_guest: true, subject: Some("me".into()), ..grant(&["**"], &["**"]) };
        let word = Grant { subject: Some("alice".into()), ..grant(&["asked/a"], &[]) };
        for held in [None, Some(&word)] {
            let bearer = Bearer { grant: Some(&guest), held, ..NOBODY };
            for name in ["demo/chat", "demo/chat/a", "demo/chat/a/b", "demo/chat/*", "demo/chat/**"] {
                let told_of = format!("encke/presence/{name}");
                assert_eq!(rules.subscribe(bearer, name), Verdict::Allowed, "{name}");
                assert_eq!(rules.subscribe(bearer, &told_of), Verdict::Allowed, "{name}");
                assert_eq!(rules.publish(bearer, &told_of), Verdict::Forbidden, "{name}");
            }
            assert_eq!(rules.publish(bearer, "demo/chat/a"), Verdict::Allowed);
            for item in ["demo/*", "demo/**", "demo/*/a", "**", "encke/presence/demo/**", "encke/presence/**"]
            {
                assert_eq!(rules.subscribe(bearer, item), Verdict::Forbidden, "{item}");
            }
            for name in ["demo/ticks", "demo/chats", "open/a", "asked/a", "a", "encke/presence/open/a"] {
                assert_eq!(rules.subscribe(bearer, name), Verdict::Forbidden, "{name}");
                assert_eq!(rules.publish(bearer, name), Verdict::Forbidden, "{name}");
            }
        }
        // Others see who is in the chat, and nobody is shown anywhere else in the demo.
        assert_eq!(rules.subscribe(NOBODY, "encke/presence/demo/chat/a"), Verdict::Allowed);
        assert_eq!(rules.presence("demo/chat/a"), Shows::Everybody);
        assert_eq!(rules.presence("demo/ticks"), Shows::Nobody);
    }

    #[test]
    fn a_token_helps_where_a_publish_token_can_be_shown() {
        let row = ChannelRule { pattern: "**".into(), subscribe: Who::Publishers, ..ChannelRule::default() };
        let mut config = Config { channels: vec![row], ..Config::default() };
        assert_eq!(Rules::new(&config).subscribe(NOBODY, "a"), Verdict::Forbidden);
        config.publish.token = vec!["s3cret".into()];
        assert_eq!(Rules::new(&config).subscribe(NOBODY, "a"), Verdict::Unidentified);
    }

    #[test]
    fn rules_that_no_channel_reaches() {
        let found = rules(&[
            ("a/**", Who::Anyone, None),
            ("a/*", Who::Anyone, None),
            ("a", Who::Anyone, None),
            ("**", Who::Anyone, None),
        ]);
        assert_eq!(found.unreachable().collect::<Vec<_>>(), [(1, "a/*", "a/**")]);
    }
}
