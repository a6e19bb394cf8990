//! Which endpoints a bucket has, and with what weight.
//!
//! Endpoints lie around a ring, each as long as its weight, in the order of a hash of their addresses. Every bucket has a
//! window of the same width, and the windows begin at equal distances. An endpoint's weight in a bucket is the area of
//! the bucket's window above it.
//!
//! A window is not a rectangle, since rectangles of a width that is no multiple of their distance would lie twice over
//! one endpoint and three times over its neighbour. It is one slid along another as wide as the distance: a trapezoid.
//! Wherever on the ring one looks, the heights of all windows add up to the same, for whatever width; so every endpoint
//! has the same share in all, by its weight. And when an endpoint comes or goes, the others move by less than its
//! length: what changes are the few at the ends of windows.

/// A ready endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// A hash of its address.
    pub key: u64,
    /// 1 to 1000.
    pub weight: u32,
}

/// What the weight of an endpoint in the middle of a window is multiplied by, so that those at its ends can have less;
/// less than that where the sum would be too large for Envoy.
const FINENESS: u64 = 1000;
/// What all weights of a bucket may add up to.
const MOST: u64 = 1 << 31;

/// The weight of each endpoint in one bucket of so many, 0 where it is not the bucket's. About `size` endpoints are, or
/// all where there are no more, or as many as it takes to use every one in some bucket.
pub fn weights(endpoints: &[Endpoint], bucket: u32, buckets: u32, size: u32) -> Vec<u32> {
    let (count, buckets) = (endpoints.len() as u64, u64::from(buckets.max(1)));
    if count <= u64::from(size) || buckets == 1 {
        return endpoints.iter().map(|endpoint| endpoint.weight).collect();
    }
    // One unit of weight is `buckets` units of length, so that windows begin at whole numbers.
    let sum: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    let length = sum * buckets;
    let window = Window::new(sum, (u64::from(size) * length / count).max(sum));
    let (begin, fineness) = (u64::from(bucket) * sum, (MOST / sum).clamp(1, FINENESS));
    let scale = |area: u64| (u128::from(area) * u128::from(fineness) / u128::from(window.height() * buckets)) as u32;
    let part = |from: u64, to: u64| scale(window.area(to)) - scale(window.area(from));

    let mut order: Vec<(u64, u32)> = endpoints.iter().zip(0..).map(|(endpoint, i)| (mix(endpoint.key), i)).collect();
    order.sort_unstable();
    let mut weights = vec![0; endpoints.len()];
    let mut from = 0;
    for (_, i) in order {
        let to = from + u64::from(endpoints[i as usize].weight) * buckets;
        // A window may go past the ring's end, to where it begins.
        for turn in [0, length] {
            let (from, to) = ((from + turn).saturating_sub(begin), (to + turn).saturating_sub(begin));
            if from < window.width && to > 0 {
                weights[i as usize] += part(from, to.min(window.width)).max(1);
            }
        }
        from = to;
    }
    weights
}

/// A trapezoid that begins at 0.
struct Window {
    width: u64,
    /// How wide either slope is; as high as it is wide. 0 for a rectangle of the height 1.
    slope: u64,
}

impl Window {
    /// A rectangle of the width `distance`, with another one slid along it.
    fn new(distance: u64, width: u64) -> Self {
        Self { width, slope: (width - distance).min(distance) }
    }

    /// Twice the height, as areas are doubled.
    fn height(&self) -> u64 {
        2 * self.slope.max(1)
    }

    /// Twice the area up to there, so that it is a whole number.
    fn area(&self, to: u64) -> u64 {
        let Self { width, slope } = *self;
        match slope {
            0 => 2 * to,
            _ if to <= slope => to * to,
            _ if to <= width - slope => slope * slope + 2 * slope * (to - slope),
            _ => 2 * slope * (width - slope) - (width - to) * (width - to),
        }
    }
}

/// Spreads bits evenly (the last step of SplitMix64), whatever the keys are.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
