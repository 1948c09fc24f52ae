//! Where the names of points stand in a drawing: beside them, and not upon each other.

use super::parts::shortened;

/// A name that is to be placed.
#[derive(Debug, Clone)]
pub(super) struct Label {
    /// The point.
    pub(super) at: [f64; 2],
    /// Its name.
    pub(super) text: String,
    /// Whether it comes before others and may cover a little of them.
    pub(super) needed: bool,
}

/// Where a name stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    /// Its anchor's place, on the line of the text.
    pub(super) at: [f64; 2],
    /// Which end of it stands there.
    pub(super) anchor: &'static str,
    /// The name, shortened.
    pub(super) text: String,
    /// Where a line from the point to the name ends, if the name stands far away.
    pub(super) leader: Option<[f64; 2]>,
}

/// Width of a letter and height of a line at the size of the drawing's text, rather too large.
const LETTER: [f64; 2] = [6.6, 13.0];
/// Letters of a name at most.
const MOST: usize = 26;

/// How far aside and above or below a name may stand where there is no room beside its point.
const RINGS: [[f64; 2]; 6] =
    [[14.0, 20.0], [24.0, 12.0], [26.0, 28.0], [40.0, 20.0], [40.0, 40.0], [60.0, 30.0]];

/// A box: left, top, right, bottom.
type Room = [f64; 4];

/// A place for each of `labels` within `plane` (left, right, top, bottom), in their order; none for a name that finds no
/// room, of which one that is needed takes some from others. Marks reach `r` around their points.
pub(super) fn placed(labels: &[Label], plane: [f64; 4], r: f64) -> Vec<Option<Place>> {
    let [left, right, top, bottom] = plane;
    let marks: Vec<Room> = labels.iter().map(|l| around(l.at, r + 1.0)).collect();
    let mut taken: Vec<Room> = Vec::new();
    let mut out = vec![None; labels.len()];
    let order = |needed| (0..labels.len()).filter(move |&i| labels[i].needed == needed);
    for i in order(true).chain(order(false)) {
        let Label { at: [x, y], text, needed } = &labels[i];
        let text = shortened(text, MOST);
        let width = text.chars().count() as f64 * LETTER[0];
        let gap = r + 4.0;
        let near = [
            ([x + gap, y + 4.0], "start"),
            ([x - gap, y + 4.0], "end"),
            ([*x, y - gap - 2.0], "middle"),
            ([*x, y + gap + 9.0], "middle"),
            ([x + gap, y - gap], "start"),
            ([x + gap, y + gap + 7.0], "start"),
            ([x - gap, y - gap], "end"),
            ([x - gap, y + gap + 7.0], "end"),
        ];
        let far = RINGS.iter().flat_map(|[dx, dy]| {
            [(1.0, -1.0, "start"), (1.0, 1.0, "start"), (-1.0, -1.0, "end"), (-1.0, 1.0, "end")]
                .map(|(right, down, anchor)| ([x + right * dx, y + down * dy + 4.0], anchor))
        });
        let cost = |room: &Room| {
            let outside = (left - room[0]).max(0.0) + (room[2] - right).max(0.0);
            let outside = outside + (top - room[1]).max(0.0) + (room[3] - bottom).max(0.0);
            let others = marks.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, room)| room);
            let covered: f64 = others.chain(&taken).map(|other| overlap(room, other)).sum();
            covered + outside * 50.0
        };
        let mut best: Option<(f64, Room, [f64; 2], &'static str, bool)> = None;
        let near = near.into_iter().map(|place| (place, false));
        for ((at, anchor), far) in near.chain(far.map(|place| (place, true))) {
            let room = room(at, anchor, width);
            let cost = cost(&room);
            // The first of equals: the nearest.
            if best.as_ref().is_none_or(|best| cost < best.0) {
                best = Some((cost, room, at, anchor, far));
            }
        }
        let Some((cost, room, at, anchor, far)) = best else { continue };
        if cost <= 0.0 || (*needed && cost < width * LETTER[1] / 4.0) {
            taken.push(room);
            let leader = far.then(|| [at[0], at[1] - 4.0]);
            out[i] = Some(Place { at, anchor, text, leader });
        }
    }
    out
}

fn around([x, y]: [f64; 2], r: f64) -> Room {
    [x - r, y - r, x + r, y + r]
}

/// What a line of text covers.
fn room([x, y]: [f64; 2], anchor: &str, width: f64) -> Room {
    let left = match anchor {
        "start" => x,
        "middle" => x - width / 2.0,
        _ => x - width,
    };
    [left, y - LETTER[1] + 3.0, left + width, y + 3.0]
}

fn overlap(a: &Room, b: &Room) -> f64 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    side(0) * side(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANE: [f64; 4] = [0.0, 400.0, 0.0, 300.0];

    fn label(x: f64, y: f64, text: &str, needed: bool) -> Label {
        Label { at: [x, y], text: text.to_owned(), needed }
    }

    #[test]
    fn names_avoid_each_other_and_the_edge() {
        for (name, labels, anchors) in [
            ("alone", vec![label(100.0, 100.0, "abc", false)], vec![Some("start")]),
            ("at the right edge", vec![label(390.0, 100.0, "abcdef", false)], vec![Some("end")]),
            (
                "side by side",
                vec![label(100.0, 100.0, "abcdef", true), label(130.0, 100.0, "abcdef", true)],
                vec![Some("end"), Some("start")],
            ),
            (
                "one upon the other",
                vec![label(100.0, 100.0, "abc", true), label(100.0, 100.0, "abc", false)],
                vec![Some("start"), Some("end")],
            ),
        ] {
            let places = placed(&labels, PLANE, 5.0);
            let found: Vec<_> = places.iter().map(|p| p.as_ref().map(|p| p.anchor)).collect();
            assert_eq!(found, anchors, "{name}");
        }
    }

    #[test]
    fn in_a_crowd_only_what_is_needed_stands() {
        let crowd: Vec<Label> =
            (0..40).map(|i| label(200.0, 150.0, "a long name of a variant", i < 2)).collect();
        let places = placed(&crowd, PLANE, 5.0);
        assert!(places[0].is_some() && places[1].is_some());
        assert!(places.iter().flatten().count() < 40);
    }
}
