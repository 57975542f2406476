//! Names as small numbers: what joining and counting compare and look up by the million.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::effort;

/// A name known to one [`Names`]; equal numbers mean equal names. 0 stands for none.
#[derive(Debug, Clone, Copy, Eq, Default, PartialOrd, Ord)]
pub(super) struct Symbol(u32);

/// As it would be derived, but that tests count the comparisons.
impl PartialEq for Symbol {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        effort::step();
        self.0 == other.0
    }
}

impl Hash for Symbol {
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Symbol {
    /// No name.
    pub(super) const NONE: Self = Self(0);

    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// Fewest names before those that nobody uses are looked for.
const SWEEP_FROM: usize = 10_000;

/// Names in use. Those that nothing uses any more are forgotten by [`Self::sweep`], so that senders of ever new names do
/// not fill the memory.
#[derive(Debug)]
pub(super) struct Names {
    texts: Vec<Option<Arc<str>>>,
    symbols: HashMap<Arc<str>, Symbol>,
    free: Vec<u32>,
    sweep_at: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { texts: vec![None], symbols: HashMap::new(), free: Vec::new(), sweep_at: SWEEP_FROM }
    }
}

impl Names {
    /// The number of a name; none for the empty one.
    pub(super) fn intern(&mut self, text: &str) -> Symbol {
        if text.is_empty() {
            return Symbol::NONE;
        }
        if let Some(symbol) = self.symbols.get(text) {
            return *symbol;
        }
        let text: Arc<str> = Arc::from(text);
        let place = self.free.pop().unwrap_or(self.texts.len() as u32);
        if place as usize == self.texts.len() {
            self.texts.push(None);
        }
        self.texts[place as usize] = Some(Arc::clone(&text));
        self.symbols.insert(text, Symbol(place));
        Symbol(place)
    }

    /// The name; empty for none.
    pub(super) fn text(&self, symbol: Symbol) -> &str {
        self.texts.get(symbol.0 as usize).and_then(Option::as_deref).unwrap_or_default()
    }

    /// Whether there are so many names that a look for unused ones is worth its time.
    pub(super) fn wants_sweep(&self) -> bool {
        self.symbols.len() >= self.sweep_at
    }

    /// Forgets all names but those in `used`.
    pub(super) fn sweep(&mut self, used: &HashSet<Symbol>) {
        let (texts, free) = (&mut self.texts, &mut self.free);
        self.symbols.retain(|_, symbol| {
            let keep = used.contains(symbol);
            if !keep {
                texts[symbol.0 as usize] = None;
                free.push(symbol.0);
            }
            keep
        });
        self.sweep_at = SWEEP_FROM.max(2 * self.symbols.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_until_nobody_uses_it() {
        let mut names = Names::default();
        let (a, b) = (names.intern("a"), names.intern("b"));
        assert_eq!((names.intern("a"), names.text(a), names.text(b)), (a, "a", "b"));
        assert_eq!((names.intern(""), names.text(Symbol::NONE)), (Symbol::NONE, ""));
        names.sweep(&HashSet::from([b]));
        assert_eq!((names.text(a), names.text(b)), ("", "b"));
        let c = names.intern("c");
        assert_eq!(names.intern("b"), b);
        assert_eq!(names.text(c), "c");
        assert_eq!(c, a, "numbers are used again");
    }

    #[test]
    fn many_names_want_a_sweep_and_few_do_not() {
        let mut names = Names::default();
        for n in 0..SWEEP_FROM - 1 {
            names.intern(&n.to_string());
        }
        assert!(!names.wants_sweep());
        names.intern("one more");
        assert!(names.wants_sweep());
        names.sweep(&HashSet::new());
        assert!(!names.wants_sweep());
    }
}
