//! The numbers of views in what is kept. A state names views by their places in the job; beside them it has
//! what they were, so that a job which is started with other views goes on with those that it still has.

use super::spec::View;

/// What views are, by their numbers, for a state that names them so.
#[must_use]
pub fn identities(views: &[View]) -> Vec<u64> {
    views.iter().map(View::identity).collect()
}

/// The numbers that views have now, by those that they had in a state.
#[derive(Debug)]
pub struct Renumbered {
    now: Vec<Option<u16>>,
    is_same: bool,
}

impl Renumbered {
    /// Of views that were these, by [`identities`], when the state was kept.
    #[must_use]
    pub fn of(before: &[u64], views: &[View]) -> Renumbered {
        let own = identities(views);
        let mut is_taken = vec![false; own.len()];
        let place = |identity: &u64| {
            // Of those that say the same each is one of its own.
            let free = |(n, own): (usize, &u64)| own == identity && !is_taken[n];
            let n = own.iter().enumerate().position(free)?;
            is_taken[n] = true;
            Some(n as u16)
        };
        Renumbered {
            is_same: own == before,
            now: before.iter().map(place).collect(),
        }
    }

    /// Whether all are what they were: none is new, and none is gone.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.is_same
    }

    /// The number now of the one that had this; `None` if it is gone.
    #[must_use]
    pub fn now(&self, before: u16) -> Option<u16> {
        self.now.get(usize::from(before)).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_found_wherever_they_stand() {
        let view = |name: &str, window| View {
            name: name.into(),
            window,
            ..View::default()
        };
        let before = [view("a", 1), view("b", 1), view("c", 1), view("b", 1)];
        let before = identities(&before);
        // Since when it counts is not what a view is.
        let late = View {
            since: 7,
            ..view("c", 1)
        };
        let views = [view("b", 1), late, view("a", 2), view("b", 1)];
        let renumbered = Renumbered::of(&before, &views);
        let now: Vec<_> = (0..5).map(|n| renumbered.now(n)).collect();
        assert_eq!(now, [None, Some(0), Some(1), Some(3), None]);
        assert!(!renumbered.is_same());
        assert!(Renumbered::of(&identities(&views), &views).is_same());
    }
}
