//! Closed sets of words, as documents write them.

/// Gives a closed set of words to an enum: as documents write them, and read back.
macro_rules! words {
    ($name:ident { $($word:literal => $value:ident),* $(,)? }) => {
        impl $name {
            /// The word that documents use.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)*
                    Self::Unknown => "unknown",
                }
            }

            /// Reads the word that documents use.
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$value),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use words;
