//! What the table is made of: [`Setting`], and the macro that turns each entry into a struct field and a
//! `Setting`.
//!
//! A macro, and not a slice written by hand beside the structs, so that the two cannot drift apart.

use std::fmt;

use super::{Config, Describe, Given, SETTINGS, TABLES};

/// How the name of a setting ends that switches its section on.
const SWITCH: &str = ".enabled";

/// One setting, whatever its type.
pub struct Setting {
    /// Its name in full, as in `limits.message_bytes`.
    pub name: &'static str,
    /// The section it belongs to; none for those at the top.
    pub section: Option<Section>,
    /// What is allowed and how it is asked for.
    pub kind: &'static (dyn Describe + Sync),
    pub(super) doc: &'static str,
    pub(super) set: fn(&mut Config, Given<'_>) -> bool,
    pub(super) show: fn(&Config) -> String,
    /// Takes the value from the second one; whether that changes it.
    pub(super) copy: fn(&mut Config, &Config) -> bool,
}

/// A `[[name]]` of the TOML file: settings that come several times, as a row each.
pub struct Table {
    /// Its name, as in `tokens.keys`.
    pub name: &'static str,
    /// What may stand in a row.
    pub columns: &'static [Column],
    pub(super) doc: &'static str,
    /// Adds a row of defaults; what is set next belongs to it.
    pub(super) add: fn(&mut Config),
    pub(super) len: fn(&Config) -> usize,
}

/// One setting of a row.
pub struct Column {
    /// Its key.
    pub key: &'static str,
    /// What is allowed.
    pub kind: &'static (dyn Describe + Sync),
    pub(super) doc: &'static str,
    /// Sets it in the last row.
    pub(super) set: fn(&mut Config, Given<'_>) -> bool,
    /// Its value in that row as TOML, unless it is the default.
    pub(super) show: fn(&Config, usize) -> Option<String>,
}

impl Table {
    /// The table of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.name == name)
    }

    /// What it is for, in a sentence.
    pub fn meaning(&self) -> &'static str {
        self.doc.trim()
    }

    /// How many rows there are.
    pub fn rows(&self, config: &Config) -> usize {
        (self.len)(config)
    }
}

impl Column {
    /// What it means, in a sentence.
    pub fn meaning(&self) -> &'static str {
        self.doc.trim()
    }
}

/// A `[section]` of the TOML file, which is a struct within [`Config`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Its name, as in `limits`.
    pub name: &'static str,
    pub(super) doc: &'static str,
}

impl Setting {
    /// The setting of that full name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// What the setting means, in a sentence.
    pub fn meaning(&self) -> &'static str {
        self.doc.trim()
    }

    /// The last part of the name: the key within its section.
    pub fn key(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The environment variable: `ENCKE_LIMITS_MESSAGE_BYTES`.
    pub fn variable(&self) -> String {
        format!("ENCKE_{}", self.short_name().replace('.', "_").to_uppercase())
    }

    /// Its name, but for the switch of a section, which goes by the section's: `--fdajax`.
    fn short_name(&self) -> &'static str {
        self.name.strip_suffix(SWITCH).unwrap_or(self.name)
    }

    /// Whether it switches its section on, which a file does by having that section.
    pub fn is_switch(&self) -> bool {
        self.name.ends_with(SWITCH)
    }

    /// The option without its dashes: `limits-message-bytes`; none for what `ps` must not show.
    pub fn option(&self) -> Option<String> {
        (!self.kind.is_secret()).then(|| self.short_name().replace(['.', '_'], "-"))
    }

    /// Its value as TOML; of a secret, only whether there is one.
    pub fn show(&self, config: &Config) -> String {
        (self.show)(config)
    }

    /// Puts the value into `config`. `written` is the value as the person wrote it, for the error, which
    /// says what is allowed.
    pub fn set(&self, config: &mut Config, given: Given<'_>, written: &str) -> Result<(), String> {
        if (self.set)(config, given) {
            return Ok(());
        }
        let (name, allowed) = (self.name, self.kind.allowed());
        if self.kind.is_secret() {
            return Err(format!("{name}: must be {allowed}"));
        }
        Err(format!("{name}: must be {allowed}, not {}", shorten(written)))
    }
}

impl Section {
    /// What the settings of this section are about.
    pub fn meaning(&self) -> &'static str {
        self.doc.trim()
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Keeps an error on one readable line, whatever was given.
pub(super) fn shorten(written: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    match written.char_indices().nth(60) {
        Some((end, _)) => written[..end].chars().map(clean).chain(['…']).collect(),
        None if written.is_empty() => "empty".into(),
        None => written.chars().map(clean).collect(),
    }
}

/// From the table in `config/mod.rs`: the structs, their defaults, and `SETTINGS`.
macro_rules! settings {
    (
        $(#[doc = $config_doc:literal])+
        $Config:ident { $(
            $(#[doc = $top_doc:literal])+
            $top:ident: $top_type:ty = $top_default:expr, $top_kind:expr;
        )+ }
        $(
            $(#[doc = $section_doc:literal])+
            $section:ident: $Section:ident { $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:expr, $kind:expr;
            )+ }
        )+
        tables { $(
            $(#[doc = $table_doc:literal])+
            $path:literal $table:ident: $Row:ident { $(
                $(#[doc = $column_doc:literal])+
                $key:literal $column:ident: $column_type:ty = $column_default:expr, $column_kind:expr;
            )+ $(hidden $(#[doc = $hidden_doc:literal])+ $hidden:ident: $hidden_type:ty;)* }
        )* }
    ) => {
        $(#[doc = $config_doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Config {
            $( $(#[doc = $top_doc])+ pub $top: $top_type, )+
            $( $(#[doc = $section_doc])+ pub $section: $Section, )+
            $( $(#[doc = $table_doc])+ pub $table: Vec<$Row>, )*
        }

        impl Default for $Config {
            fn default() -> Self {
                Self {
                    $( $top: $top_default, )+
                    $( $section: $Section::default(), )+
                    $( $table: Vec::new(), )*
                }
            }
        }

        $(
            $(#[doc = $table_doc])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Row {
                $( $(#[doc = $column_doc])+ pub $column: $column_type, )+
                $( $(#[doc = $hidden_doc])+ pub $hidden: $hidden_type, )*
            }

            impl Default for $Row {
                fn default() -> Self {
                    Self { $( $column: $column_default, )+ $( $hidden: Default::default(), )* }
                }
            }
        )*

        /// Every array of tables, in the order in which they are shown.
        pub static TABLES: &[Table] = &[
            $( Table {
                name: $path,
                doc: concat!($($table_doc),+),
                columns: &[ $( Column {
                    key: $key,
                    kind: &$column_kind,
                    doc: concat!($($column_doc),+),
                    set: |config, given| match (config.$table.last_mut(), $column_kind.read(given)) {
                        (Some(row), Some(value)) => {
                            row.$column = value;
                            true
                        }
                        _ => false,
                    },
                    show: |config, row| {
                        let default: $column_type = $column_default;
                        let value = &config.$table.get(row)?.$column;
                        (*value != default).then(|| $column_kind.show(value))
                    },
                }, )+ ],
                add: |config| config.$table.push($Row::default()),
                len: |config| config.$table.len(),
            }, )*
        ];

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, PartialEq)]
            pub struct $Section {
                $( $(#[doc = $doc])+ pub $field: $type, )+
            }

            impl $Section {
                const SECTION: Section =
                    Section { name: stringify!($section), doc: concat!($($section_doc),+) };
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $field: $default, )+ }
                }
            }

            // Not derived: a secret must not reach a log.
            impl std::fmt::Debug for $Section {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.debug_struct(stringify!($Section))
                        $( .field(stringify!($field), &format_args!("{}", $kind.show(&self.$field))) )+
                        .finish()
                }
            }
        )+

        /// Every setting, in the order in which they are shown.
        pub static SETTINGS: &[Setting] = &[
            $( Setting {
                name: stringify!($top),
                section: None,
                kind: &$top_kind,
                doc: concat!($($top_doc),+),
                set: |config, given| $top_kind.read(given).map(|value| config.$top = value).is_some(),
                show: |config| $top_kind.show(&config.$top),
                copy: |config, from| {
                    let changes = config.$top != from.$top;
                    config.$top.clone_from(&from.$top);
                    changes
                },
            }, )+
            $($( Setting {
                name: concat!(stringify!($section), ".", stringify!($field)),
                section: Some($Section::SECTION),
                kind: &$kind,
                doc: concat!($($doc),+),
                set: |config, given| $kind.read(given).map(|value| config.$section.$field = value).is_some(),
                show: |config| $kind.show(&config.$section.$field),
                copy: |config, from| {
                    let changes = config.$section.$field != from.$section.$field;
                    config.$section.$field.clone_from(&from.$section.$field);
                    changes
                },
            }, )+)+
        ];
    };
}
pub(super) use settings;
