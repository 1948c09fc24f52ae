//! The page as a document: well-formed, self-contained, complete, and the same each time.

use super::super::samples::{hostile, report, rich};
use super::super::xml::{Element, parse};
use super::super::{Report, Variant};
use super::html;

fn elements(report: &Report, others: &[Report]) -> Vec<Element> {
    let page = html(report, others);
    assert_eq!(page, html(report, others), "the same each time");
    // The one element of a page that has no end.
    parse(page.strip_prefix("<!DOCTYPE html>").unwrap()).unwrap()
}

fn older() -> Report {
    let mut older = rich();
    older.created = "2026-01-01T00:00:00Z".to_owned();
    older.variants.truncate(3);
    older.variants[1].size_bytes = Some(4_000_000);
    older
}

fn empty() -> Report {
    Report { variants: Vec::<Variant>::new(), paired: vec![], reference: None, ..report() }
}

fn ids(elements: &[Element]) -> Vec<&str> {
    elements.iter().filter_map(|e| e.attribute("id")).collect()
}

#[test]
fn every_part_is_there_that_there_are_figures_for() {
    let sections = |report: &Report, others: &[Report]| {
        let all = elements(report, others);
        let names = all.iter().filter(|e| e.name == "section");
        names.map(|e| e.attribute("id").unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let most = "variants front verdicts tokens pairs heat cost transcripts";
    assert_eq!(sections(&rich(), &[]), format!("{most} all origin"));
    assert_eq!(sections(&rich(), &[older()]), format!("{most} history all origin"));
    assert_eq!(sections(&report(), &[]), "variants front verdicts cost transcripts all origin");
    assert_eq!(sections(&empty(), &[]), "variants origin");
}

#[test]
fn nothing_is_fetched_and_nothing_runs() {
    for report in [rich(), hostile(), empty()] {
        for element in elements(&report, &[older()]) {
            let tag = element.name.as_str();
            assert!(
                !["script", "link", "img", "iframe", "object", "base", "use"].contains(&tag),
                "{tag}"
            );
            for (name, value) in &element.attributes {
                assert!(!name.starts_with("on") && name != "style" && name != "src", "{name}");
                assert!(name != "href" || value.starts_with('#'), "{value}");
            }
            if tag == "style" {
                assert!(!element.text.contains("url(") && !element.text.contains("@import"));
                assert!(!element.text.contains(['<', '&']), "the style is not escaped");
            }
        }
    }
}

#[test]
fn links_lead_somewhere_and_names_are_unique() {
    for all in [elements(&rich(), &[older()]), elements(&hostile(), &[]), elements(&empty(), &[])] {
        let mut known = ids(&all);
        for element in &all {
            if let Some(target) = element.attribute("href") {
                assert!(known.contains(&target.trim_start_matches('#')), "{target}");
            }
            for id in element.attribute("aria-labelledby").unwrap_or("").split_whitespace() {
                assert!(known.contains(&id), "{id}");
            }
        }
        let count = known.len();
        known.sort_unstable();
        known.dedup();
        assert_eq!(known.len(), count);
    }
}

#[test]
fn drawings_and_tables_are_said_in_words() {
    let all = elements(&rich(), &[older()]);
    for (i, element) in all.iter().enumerate() {
        let inner = |tag: &str| {
            let depth = element.within.len();
            all[i + 1..].iter().take_while(|e| e.within.len() > depth).any(|e| e.name == tag)
        };
        match element.name.as_str() {
            "svg" if element.attribute("aria-hidden").is_none() => {
                assert_eq!(element.attribute("role"), Some("img"));
                assert!(inner("title"), "{element:?}");
            }
            "table" => assert!(inner("caption"), "{element:?}"),
            "th" => assert!(element.attribute("scope").is_some(), "{element:?}"),
            "details" => assert!(inner("summary")),
            _ => {}
        }
    }
    let named: Vec<_> = all.iter().filter(|e| e.name == "title").map(|e| e.text.as_str()).collect();
    assert!(named.iter().all(|text| !text.is_empty()));
    let lang = all.iter().find(|e| e.name == "html").and_then(|e| e.attribute("lang"));
    assert_eq!(lang, Some("en"));
}

#[test]
fn hostile_text_stays_text() {
    let report = hostile();
    let all = elements(&report, &[]);
    let heading = all.iter().find(|e| e.name == "h1").unwrap();
    let shown = report.source.name.replace('\u{7}', "\u{fffd}");
    assert_eq!(heading.text, shown);
    assert!(all.iter().any(|e| e.name == "mark" && e.text.contains("<script>")));
}

#[test]
fn the_newest_report_is_the_one_that_is_drawn() {
    let titles = |first: &Report, others: &[Report]| {
        let all = elements(first, others);
        all.iter().filter(|e| e.name == "tr" && e.attribute("id").is_some()).count()
    };
    let five = rich().variants.len();
    assert_eq!(titles(&rich(), &[older()]), five);
    assert_eq!(titles(&older(), &[rich()]), five);
    assert_eq!(html(&older(), &[rich()]), html(&rich(), &[older()]), "in whatever order");
}

#[test]
fn a_transcript_is_marked_where_it_parts() {
    let all = elements(&rich(), &[]);
    let marks: Vec<_> = all.iter().filter(|e| e.name == "mark").map(|e| e.text.as_str()).collect();
    assert_eq!(marks[..2], ["queen went up", "king went up"]);
    let texts: Vec<_> = all.iter().filter(|e| e.name == "dd").map(|e| e.text.as_str()).collect();
    assert!(texts.contains(&"token 2 of 4, a near tie: margin 0.0040 logits"), "{texts:?}");
    assert!(texts.contains(&"token 2 of 4, no tie: margin 1.75 logits"));
}
