//! Quiet visits: to which nothing has been added for a while, though they grow. As long as there is room
//! for what is kept of them, they are followed on: who goes on is not read again, and who is sealed only
//! as far as more is asked of it than was told.

use std::collections::VecDeque;

use crate::complete::Key as BrowserKey;
use crate::visit::Tick;

/// Browsers whose visits grow, and when they were told of last. Who is told of again, or has no visit any
/// more, is in the lists until its turn all the same: whoever asks knows better.
#[derive(Default)]
pub(super) struct Quiet {
    /// In the order in which they were told of.
    told: VecDeque<(Tick, BrowserKey)>,
    /// Those that have gone quiet since, the first of them first, and the bytes that are kept of each.
    rest: VecDeque<(Tick, BrowserKey, usize)>,
    /// All bytes of these.
    bytes: usize,
}

impl Quiet {
    /// A browser whose visit grows was told of at this tick.
    pub fn told(&mut self, at: Tick, key: BrowserKey) {
        self.told.push_back((at, key));
    }

    /// The next that was told of at this tick or before.
    pub fn told_by(&mut self, tick: Tick) -> Option<(Tick, BrowserKey)> {
        let is_due = self.told.front().is_some_and(|(told, _)| *told <= tick);
        is_due.then(|| self.told.pop_front()).flatten()
    }

    /// A browser has gone quiet since it was told of, and so many bytes are kept of it.
    pub fn rest(&mut self, told: Tick, key: BrowserKey, bytes: usize) {
        self.rest.push_back((told, key, bytes));
        self.bytes += bytes;
    }

    /// The one that has rested longest, if more is kept of all than this.
    pub fn over(&mut self, room: usize) -> Option<(Tick, BrowserKey)> {
        let over = self.bytes > room;
        let (told, key, bytes) = over.then(|| self.rest.pop_front()).flatten()?;
        self.bytes -= bytes;
        Some((told, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_rest_longest_make_room() {
        let key = |n: u8| [u64::from(n); 2];
        let mut quiet = Quiet::default();
        (0..4).for_each(|n| quiet.told(Tick::from(n) * 10, key(n)));
        while let Some((told, key)) = quiet.told_by(20) {
            quiet.rest(told, key, 100);
        }
        assert_eq!(quiet.over(300), None);
        assert_eq!(quiet.over(250), Some((0, key(0))));
        assert_eq!(quiet.over(250), None);
        assert_eq!(quiet.told_by(20), None);
        assert_eq!(quiet.told_by(30), Some((30, key(3))));
        quiet.rest(30, key(3), 1_000);
        // One that is too much alone does not rest behind others.
        let over: Vec<_> = std::iter::from_fn(|| quiet.over(500)).collect();
        assert_eq!(over, [(10, key(1)), (20, key(2)), (30, key(3))]);
        assert_eq!(quiet.over(0), None);
    }
}
