//! Texts that many rows share (tools, models, workers, …), each kept once.

use std::collections::HashMap;
use std::sync::Arc;

/// A text among [`Symbols`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(u32);

impl Symbol {
    /// Its place in the order of coming, from 0: the same whenever the same log is read.
    pub fn number(self) -> u64 {
        self.0.into()
    }
}

/// Every text once. It only grows: with the names in the history, not with its length.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    texts: Vec<Arc<str>>,
    index: HashMap<Arc<str>, Symbol>,
}

impl Symbols {
    /// The symbol of a text, made if it is new.
    pub(super) fn of(&mut self, text: &str) -> Symbol {
        if let Some(known) = self.index.get(text) {
            return *known;
        }
        let symbol = Symbol(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        self.index.insert(text, symbol);
        symbol
    }

    /// The symbol of a text, if the history holds it.
    pub fn find(&self, text: &str) -> Option<Symbol> {
        self.index.get(text).copied()
    }

    /// The text of a symbol, shared.
    pub fn shared(&self, symbol: Symbol) -> Arc<str> {
        self.texts.get(symbol.0 as usize).cloned().unwrap_or_else(|| Arc::from(""))
    }

    /// The text of a symbol.
    pub fn text(&self, symbol: Symbol) -> &str {
        self.texts.get(symbol.0 as usize).map_or("", |text| text)
    }
}
