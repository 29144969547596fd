//! Random numbers that are the same every time, and ways to damage bytes with them.

/// xorshift64*, seeded so that neighbouring numbers have nothing in common.
pub struct Random(u64);

/// What parsers trip over.
const TOKENS: [&[u8]; 40] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"..",
    b"/",
    b"../../etc",
    b"=",
    b",",
    b":",
    b"-",
    b"+1",
    b"-1",
    b"0",
    b"00",
    b"007",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999",
    b"4294967296",
    b"65536",
    b"256",
    b"1e9",
    b"nan",
    b"0x10",
    b"16E",
    b"1.5G",
    b"\xff\xfe",
    "\u{e4}".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{202e}".as_bytes(),
    "\u{1f980}".as_bytes(),
    b"\x1b[2J",
    b"\"",
    b"\\",
    b"\\x+f",
    b"null",
    b"{}",
];

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((z ^ (z >> 27)).max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to `limit` - 1; 0 where there is nothing below.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }

    /// One time in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Small, large, and right at the edges.
    pub fn number(&mut self) -> u64 {
        let base = match self.below(4) {
            0 => self.next() & 0xff,
            1 => 1_u64 << self.below(64),
            2 => u64::MAX,
            _ => self.next() >> self.below(64),
        };
        match self.below(4) {
            0 => base.wrapping_sub(1),
            1 => base.wrapping_add(1),
            _ => base,
        }
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    pub fn token(&mut self) -> &'static [u8] {
        TOKENS[self.below(TOKENS.len())]
    }

    /// `bytes`, a little or much damaged: bits, cuts, tokens, and parts of itself or of one of the `others`.
    pub fn damage(&mut self, bytes: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            self.damage_once(&mut bytes, others);
        }
        bytes
    }

    fn damage_once(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below(bytes.len() - at + 1).min(1 << self.below(10));
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.next() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                drop(bytes.splice(to..to, part));
            }
            5 if !others.is_empty() => {
                let other = self.pick(others);
                let from = self.below(other.len() + 1);
                let part = other[from..].iter().take(64).copied().collect::<Vec<_>>();
                drop(bytes.splice(at..end, part));
            }
            6 => self.swap_lines(bytes),
            7 if self.one_in(20) => drop(bytes.splice(at..at, vec![b'x'; 5_000])),
            _ => drop(bytes.splice(at..at, self.token().iter().copied())),
        }
    }

    fn swap_lines(&mut self, bytes: &mut Vec<u8>) {
        let mut lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
        let (one, other) = (self.below(lines.len()), self.below(lines.len()));
        if !lines.is_empty() {
            lines.swap(one, other);
        }
        *bytes = lines.concat();
    }
}
