//! Strongly connected components of the request path, callees first.

/// Components of `callees` (one list a node), each sorted, in an order in which callees come before callers.
pub(crate) fn strongly_connected(callees: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let count = callees.len();
    let (mut index, mut low) = (vec![UNSEEN; count], vec![0; count]);
    let mut settled = vec![false; count];
    let (mut open, mut found) = (Vec::new(), Vec::new());
    let mut next = 0;
    for root in 0..count {
        if index[root] != UNSEEN {
            continue;
        }
        let mut path: Vec<(usize, usize)> = vec![(root, 0)];
        while let Some((node, position)) = path.pop() {
            if position == 0 {
                index[node] = next;
                low[node] = next;
                next += 1;
                open.push(node);
            } else {
                low[node] = low[node].min(low[callees[node][position - 1]]);
            }
            let rest = callees[node][position..].iter();
            let mut step = position;
            let mut descend = None;
            for callee in rest {
                step += 1;
                if index[*callee] == UNSEEN {
                    descend = Some(*callee);
                    break;
                }
                if !settled[*callee] {
                    low[node] = low[node].min(index[*callee]);
                }
            }
            if let Some(callee) = descend {
                path.push((node, step));
                path.push((callee, 0));
            } else if low[node] == index[node] {
                let from = open.iter().rposition(|opened| *opened == node).unwrap_or(0);
                let mut members = open.split_off(from);
                members.iter().for_each(|member| settled[*member] = true);
                members.sort_unstable();
                found.push(members);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callees_come_first_and_cycles_stay_together() {
        let callees = vec![vec![1], vec![2, 3], vec![1], vec![4], vec![], vec![0, 5]];
        assert_eq!(strongly_connected(&callees), [vec![4], vec![3], vec![1, 2], vec![0], vec![5]]);
    }

    #[test]
    fn a_chain_deeper_than_a_stack_is_no_matter() {
        let callees: Vec<Vec<usize>> =
            (0..200_000).map(|node| if node + 1 < 200_000 { vec![node + 1] } else { vec![] }).collect();
        assert_eq!(strongly_connected(&callees).len(), 200_000);
    }
}
