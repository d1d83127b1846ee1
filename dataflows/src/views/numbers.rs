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
pub struct Renumbered(Vec<Option<u16>>);

impl Renumbered {
    /// Of views that were these when the state was kept, and are those `now`; both by [`identities`].
    #[must_use]
    pub fn of(before: &[u64], now: &[u64]) -> Renumbered {
        let mut is_taken = vec![false; now.len()];
        let place = |identity: &u64| {
            // Of those that say the same each is one of its own.
            let free = |(n, own): (usize, &u64)| own == identity && !is_taken[n];
            let n = now.iter().enumerate().position(free)?;
            is_taken[n] = true;
            Some(n as u16)
        };
        Renumbered(before.iter().map(place).collect())
    }

    /// Whether each has the number that it had: none is gone, and others come behind them.
    #[must_use]
    pub fn is_same(&self) -> bool {
        let same = |(n, now): (usize, &Option<u16>)| now.map(usize::from) == Some(n);
        self.0.iter().enumerate().all(same)
    }

    /// The number now of the one that had this; `None` if it is gone.
    #[must_use]
    pub fn now(&self, before: u16) -> Option<u16> {
        self.0.get(usize::from(before)).copied().flatten()
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
        let views = identities(&views);
        let renumbered = Renumbered::of(&before, &views);
        let now: Vec<_> = (0..5).map(|n| renumbered.now(n)).collect();
        assert_eq!(now, [None, Some(0), Some(1), Some(3), None]);
        assert!(!renumbered.is_same());
        assert!(Renumbered::of(&views, &views).is_same());
        assert!(Renumbered::of(&views[..2], &views).is_same());
        assert!(!Renumbered::of(&views, &views[..2]).is_same());
    }
}
