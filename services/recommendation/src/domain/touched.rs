//! Services that changed and whose recommendations nobody has looked at since: each once, in bounded memory.

use std::collections::BTreeSet;

use attain_vocabulary::{EntityId, TenantId};

/// Services that wait.
#[derive(Debug)]
pub(crate) struct Touched {
    waiting: BTreeSet<(TenantId, EntityId)>,
    waiting_max: usize,
    /// Whether some did not fit.
    overflowed: bool,
}

impl Touched {
    pub(crate) fn new(waiting_max: usize) -> Self {
        Self { waiting: BTreeSet::new(), waiting_max, overflowed: false }
    }

    /// The service changed.
    pub(crate) fn note(&mut self, tenant: &TenantId, service: &EntityId) {
        let key = (tenant.clone(), service.clone());
        if self.waiting.len() < self.waiting_max {
            self.waiting.insert(key);
        } else if !self.waiting.contains(&key) {
            self.overflowed = true;
        }
    }

    /// Any service may have changed.
    pub(crate) fn note_all(&mut self) {
        self.waiting.clear();
        self.overflowed = true;
    }

    /// Takes at most `limit` services out; and whether others changed of which only that is known, so that everything that
    /// is stored has to be judged.
    pub(crate) fn take(&mut self, limit: usize) -> (Vec<(TenantId, EntityId)>, bool) {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some(next) = self.waiting.pop_first() else { break };
            taken.push(next);
        }
        (taken, std::mem::take(&mut self.overflowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(taken: &[(TenantId, EntityId)]) -> Vec<&str> {
        taken.iter().map(|(_, service)| service.as_str()).collect()
    }

    #[test]
    fn each_waits_once_and_what_does_not_fit_is_said() {
        let tenant = TenantId::default();
        let mut touched = Touched::new(3);
        for service in ["b", "a", "b", "c", "a"] {
            touched.note(&tenant, &EntityId::new("id", service).expect("valid"));
        }
        let (taken, all) = touched.take(2);
        assert_eq!((names(&taken), all), (vec!["a", "b"], false));
        for service in ["d", "e", "f", "c"] {
            touched.note(&tenant, &EntityId::new("id", service).expect("valid"));
        }
        let (taken, all) = touched.take(10);
        assert_eq!((names(&taken), all), (vec!["c", "d", "e"], true));
        assert_eq!(touched.take(10), (Vec::new(), false));
        touched.note(&tenant, &EntityId::new("id", "a").expect("valid"));
        touched.note_all();
        assert_eq!(touched.take(10), (Vec::new(), true));
    }
}
