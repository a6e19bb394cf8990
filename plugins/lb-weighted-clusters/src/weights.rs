//! From shares of clusters to weights of endpoints: whole numbers that are in just these proportions.

/// A cluster's share of the whole, and the sum of its endpoints' own weights. One without a share gets nothing.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// Its name.
    pub name: &'a str,
    /// In proportion to the other clusters'.
    pub share: u64,
    /// 0 where it has no endpoints.
    pub sum: u64,
}

/// What all weights may add up to where they are exact. Envoy's limit is 2³² - 1.
const MOST: u64 = 1 << 31;
/// What all weights add up to where they are rounded: so much that nobody can measure the rounding.
const ROUNDED: u64 = 1 << 30;

/// Gives a cluster's endpoints their weights, one after the other. They add up to just `total`.
#[derive(Clone, Debug)]
pub struct Scale {
    total: u64,
    sum: u64,
    before: u64,
}

impl Scale {
    /// The weight of the next endpoint, by its own: at least 1, and at most 1 away from its exact share.
    pub fn next(&mut self, own: u32) -> u32 {
        let at = |sum: u64| u128::from(self.total) * u128::from(sum) / u128::from(self.sum.max(1));
        let after = self.before + u64::from(own);
        let weight = at(after) - at(self.before);
        self.before = after;
        u32::try_from(weight).unwrap_or(u32::MAX)
    }
}

/// How each cluster's endpoints are to be weighted.
pub fn scales(clusters: &[Cluster<'_>]) -> Vec<Scale> {
    let totals = exact(clusters).unwrap_or_else(|| rounded(clusters));
    clusters.iter().zip(totals).map(|(cluster, total)| Scale { total, sum: cluster.sum, before: 0 }).collect()
}

/// The least totals that give every endpoint a whole number; none where they would be too large.
fn exact(clusters: &[Cluster<'_>]) -> Option<Vec<u64>> {
    let used = || clusters.iter().filter(|cluster| cluster.share > 0 && cluster.sum > 0);
    let mut multiple: u64 = 1;
    for cluster in used() {
        multiple = (multiple / gcd(multiple, cluster.sum)).checked_mul(cluster.sum)?;
    }
    // What an endpoint of weight 1 gets in each cluster, and what they all can be divided by.
    let mut divisor = 0;
    for cluster in used() {
        divisor = gcd(divisor, cluster.share.checked_mul(multiple / cluster.sum)?);
    }
    let total = |cluster: &Cluster<'_>| match cluster {
        Cluster { share: 0, .. } | Cluster { sum: 0, .. } => Some(0),
        Cluster { share, sum, .. } => (share * (multiple / sum) / divisor).checked_mul(*sum),
    };
    let totals = clusters.iter().map(total).collect::<Option<Vec<u64>>>()?;
    (totals.iter().try_fold(0u64, |sum, total| sum.checked_add(*total))? <= MOST).then_some(totals)
}

/// Totals near the shares, but so large that every endpoint has at least 1.
fn rounded(clusters: &[Cluster<'_>]) -> Vec<u64> {
    let all: u64 = clusters.iter().filter(|cluster| cluster.sum > 0).map(|cluster| cluster.share).sum();
    let total = |cluster: &Cluster<'_>| match cluster {
        Cluster { share: 0, .. } | Cluster { sum: 0, .. } => 0,
        Cluster { share, sum, .. } => ((u128::from(ROUNDED) * u128::from(*share) / u128::from(all)) as u64).max(*sum),
    };
    clusters.iter().map(total).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests;
