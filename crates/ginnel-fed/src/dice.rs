//! Seeded chance: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). The same seed gives the same run.

/// A source of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// One that begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `n` - 1.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    /// An index of a slice of this length.
    ///
    /// # Panics
    /// If it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Once in so many times.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// A wrong word in the place of `old`: near it, an extreme, a small number, as a slot's word is made, or anything.
    pub fn wrong(&mut self, old: u64) -> u64 {
        match self.below(12) {
            0..4 => old ^ 1 << self.below(64),
            4 => old.wrapping_add(1),
            5 => old.wrapping_sub(1),
            6 => old.wrapping_add(self.pick(&[1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 22])),
            7 => self.roll(),
            8 | 9 => self.pick(&[0, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, 1 << 32, u64::MAX - 31]),
            10 => self.below(300),
            _ => self.below(16) << 19 | self.below(8) << 16 | self.below(8), // as a slot's word is made
        }
    }
}
