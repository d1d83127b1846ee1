//! The made shop's dice: xoshiro256++, seeded by splitmix64. Integers only, so that a seed throws
//! the same on every machine. Not for secrets.

/// One stream of dice.
#[derive(Clone, Debug)]
pub(super) struct Rng([u64; 4]);

/// `log2(1 + i/32)` in 1/65,536ths.
const LOG2: [u64; 33] = [
    0, 2909, 5732, 8473, 11136, 13727, 16248, 18704, 21098, 23433, 25711, 27936, 30109, 32234,
    34312, 36346, 38336, 40286, 42196, 44068, 45904, 47705, 49472, 51207, 52911, 54584, 56229,
    57845, 59434, 60997, 62534, 64047, 65536,
];
/// `ln 2` in 1/65,536ths.
const LN2: u64 = 45_426;

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream `number` of the kind `kind` under `seed`. Streams are independent, so what one
    /// visitor does never moves another's dice.
    pub fn new(seed: u64, kind: u64, number: u64) -> Rng {
        let mut state = seed;
        for part in [kind, number] {
            state = splitmix(&mut state) ^ part;
        }
        Rng(std::array::from_fn(|_| splitmix(&mut state)))
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// A number under `n`; 0 if `n` is 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// A number of ms in `[least, most]`.
    #[inline]
    pub fn between(&mut self, least: i64, most: i64) -> i64 {
        least + self.below((most - least + 1) as u64) as i64
    }

    /// True `part` times in `of`.
    #[inline]
    pub fn chance(&mut self, part: u64, of: u64) -> bool {
        self.below(of) < part
    }

    /// One of them; they must not be none.
    #[inline]
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A waiting time of this mean, exponentially distributed: the time to the next of many
    /// independent arrivals.
    pub fn wait(&mut self, mean: i64) -> i64 {
        let bits = self.bits() | 1;
        let zeros = u64::from(bits.leading_zeros());
        // bits / 2^64 = 2^-(zeros + 1) · (1 + fraction / 65,536)
        let fraction = ((u128::from(bits) << (zeros + 1)) as u64) >> 48;
        let (at, rest) = ((fraction >> 11) as usize, fraction & 2047);
        let log = LOG2[at] + (((LOG2[at + 1] - LOG2[at]) * rest) >> 11);
        let halvings = ((zeros + 1) << 16) - log;
        ((u128::from(halvings * LN2) * mean.max(0) as u128) >> 32) as i64
    }

    /// An ID.
    #[inline]
    pub fn id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.bits().to_le_bytes());
        id[8..].copy_from_slice(&self.bits().to_le_bytes());
        id
    }

    /// `n` letters and digits.
    pub fn name(&mut self, n: usize) -> String {
        const OF: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        (0..n).map(|_| char::from(self.pick(OF))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_are_those_of_the_published_algorithm() {
        // From the reference implementation of xoshiro256++ with the state 1, 2, 3, 4.
        let mut rng = Rng([1, 2, 3, 4]);
        let first: Vec<u64> = (0..4).map(|_| rng.bits()).collect();
        assert_eq!(
            first,
            [
                41_943_041,
                58_720_359,
                3_588_806_011_781_223,
                3_591_011_842_654_386
            ]
        );
    }

    #[test]
    fn waits_have_their_mean_and_the_tail_of_an_exponential() {
        let mut rng = Rng::new(7, 0, 0);
        let waits: Vec<i64> = (0..100_000).map(|_| rng.wait(10_000)).collect();
        let mean = waits.iter().sum::<i64>() / 100_000;
        assert!((9_900..10_100).contains(&mean), "{mean}");
        let long = waits.iter().filter(|w| **w > 30_000).count();
        assert!(
            (4_700..5_300).contains(&long),
            "e^-3 of them are over thrice the mean: {long}"
        );
        assert!(waits.iter().all(|w| *w >= 0));
    }

    #[test]
    fn streams_differ_and_repeat() {
        assert_eq!(Rng::new(1, 2, 3).id(), Rng::new(1, 2, 3).id());
        assert_ne!(Rng::new(1, 2, 3).id(), Rng::new(1, 3, 2).id());
        assert_ne!(Rng::new(1, 2, 3).id(), Rng::new(2, 2, 3).id());
    }
}
