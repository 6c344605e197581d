//! The arithmetic of the reduction tree, to check a tree made elsewhere against it.
//!
//! ```
//! use catchment::testing::tree;
//! // Leaf 70 is the seventh member of the third group above the leaves, where groups have up to 32.
//! assert_eq!(tree::parent(0, 70, 32), (1, 2, 6));
//! // Of 71 leaves the third group has seven, and the group above all three is the root.
//! assert_eq!(tree::edges(71, 32), [(1, 2, 7, false), (2, 0, 3, true)]);
//! ```

use crate::core::tree::{self, Tree};

/// A node's position in the group above it: the group's level and index, and the node's slot. In constant time.
pub fn parent(level: u32, index: u64, fan_in: u32) -> (u32, u64, u32) {
    tree::parent(level, index, fan_in)
}

/// The groups whose size has to be recorded, from the lowest level up: level, index, members, and whether it is
/// the root. At most one for each level, of which there are about log(`leaves`) to the base `fan_in`.
pub fn edges(leaves: u64, fan_in: u32) -> Vec<(u32, u64, u32, bool)> {
    let edges = Tree::new(leaves, fan_in).edges();
    let edge = |edge: tree::Edge| (edge.level, edge.index, edge.expected, edge.root);
    edges.into_iter().map(edge).collect()
}
