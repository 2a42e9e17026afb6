//! Keccak-256 as Ethereum uses it: the original padding, not that of SHA-3 (FIPS 202).

/// FIPS 202, section 3.2.5.
const ROUND_CONSTANTS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];
/// FIPS 202, sections 3.2.2 and 3.2.3: how far a lane is rotated, and where it goes, along one path.
const ROTATIONS: [u32; 24] =
    [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44];
const LANES: [usize; 24] =
    [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1];

/// The digest of a message of at most 135 bytes, which is one block; a longer one is cut.
pub(super) fn keccak_256(message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 136];
    let length = message.len().min(135);
    for (place, byte) in block.iter_mut().zip(message.iter().take(length).chain(&[1])) {
        *place = *byte;
    }
    block[135] |= 0x80;
    let mut state = [0_u64; 25];
    let (words, _) = block.as_chunks::<8>();
    for (lane, word) in state.iter_mut().zip(words) {
        *lane = u64::from_le_bytes(*word);
    }
    permute(&mut state);
    let mut digest = [0; 32];
    for (place, byte) in digest.iter_mut().zip(state.iter().flat_map(|lane| lane.to_le_bytes())) {
        *place = byte;
    }
    digest
}

/// `Keccak-f[1600]`. Every index is below 25 by construction.
fn permute(state: &mut [u64; 25]) {
    for constant in ROUND_CONSTANTS {
        let column = |x: usize| (0..5).fold(0, |parity, y| parity ^ state[x + 5 * y]);
        let columns: [u64; 5] = std::array::from_fn(column);
        for (place, lane) in state.iter_mut().enumerate() {
            let x = place % 5;
            *lane ^= columns[(x + 4) % 5] ^ columns[(x + 1) % 5].rotate_left(1);
        }
        let mut lane = state[1];
        for (rotation, place) in ROTATIONS.into_iter().zip(LANES) {
            let next = state[place];
            state[place] = lane.rotate_left(rotation);
            lane = next;
        }
        for row in state.as_chunks_mut::<5>().0 {
            let old = *row;
            for (x, lane) in row.iter_mut().enumerate() {
                *lane = old[x] ^ (!old[(x + 1) % 5] & old[(x + 2) % 5]);
            }
        }
        state[0] ^= constant;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digests of the empty message and of `abc` that Ethereum's documentation gives.
    #[test]
    fn known_digests() {
        let hex = |digest: [u8; 32]| digest.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hex(keccak_256(b"")),
            "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
        );
        assert_eq!(
            hex(keccak_256(b"abc")),
            "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
        );
    }
}
