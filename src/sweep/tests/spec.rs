//! Specs: what they plan, and what is said of mistakes.

use std::path::{Path, PathBuf};

use crate::base::error::Hint as _;
use crate::base::package_options::{EncodeAdapters, KvCacheForm, Target};
use crate::sweep::{Keep, Lines, Place, Spec};

/// Stands in for the parser of recipes: the fewest bits named after `pal`, `int` or `fp`.
pub(super) fn bits(recipe: &str) -> Result<u32, String> {
    let one = |part: &str| {
        let method = part.rsplit('=').next().unwrap_or(part);
        let digits = method.trim_start_matches(char::is_alphabetic);
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        let known = ["fp16", "pal8", "pal6", "pal4", "int8", "int4"];
        let known = known.iter().any(|known| method.starts_with(known));
        digits.parse().ok().filter(|_| known).ok_or_else(|| format!("`{part}` is no recipe"))
    };
    let bits: Result<Vec<u32>, String> = recipe.split(',').map(one).collect();
    Ok(bits?.into_iter().min().unwrap_or(16))
}

const SMALL: &str = "\
[model]
path = \"../m\"
seq_len = 64

[variants]
recipes = [\"pal4-g16\"]

[output]
dir = \"out\"
";

fn parse(text: &str) -> Result<Spec, crate::sweep::SpecError> {
    Spec::parse(text, Path::new("specs/a.toml"), &bits)
}

#[test]
fn the_quickstart_is_a_spec() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/quickstart.toml");
    let text = fs_err::read_to_string(&path).unwrap();
    let spec = Spec::parse(&text, Path::new("sweeps/quickstart.toml"), &bits).unwrap();
    assert_eq!(spec.model.place, Place::Path(PathBuf::from("goldens/dictlm")));
    assert_eq!(spec.output.dir, Path::new("out/quickstart"));
    assert_eq!(spec.evaluate.prompts, Lines::File(PathBuf::from("goldens/prompts.json")));
    let plan = spec.plan();
    let lines: Vec<_> =
        plan.variants.iter().map(|v| format!("{} {} {}", v.name, v.bits, v.recipe)).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn defaults_are_what_the_documents_say() {
    let spec = parse(SMALL).unwrap();
    assert_eq!(spec.model.place, Place::Path(PathBuf::from("m")));
    assert_eq!(spec.output.dir, Path::new("specs/out"));
    assert_eq!(spec.model.target, Target::IOS18);
    assert_eq!(spec.model.kv_cache, KvCacheForm::State);
    assert_eq!(spec.model.encode_adapters, EncodeAdapters::Branches);
    assert_eq!(spec.output.keep, Keep::All);
    assert_eq!((spec.output.cache.as_ref(), spec.output.link_baseline), (None, false));
    assert_eq!((spec.evaluate.window(64), spec.evaluate.stride(64)), (64, 64));
    assert_eq!((spec.evaluate.top_k, spec.evaluate.noise_floor), (None, true));
    let names: Vec<_> = spec.plan().variants.into_iter().map(|v| v.name).collect();
    assert_eq!(names, ["fp16", "pal4-g16"], "the baseline comes first though nobody asked for it");
}

#[test]
fn lists_and_grids_are_planned_once_each_in_order() {
    let text = SMALL.replace(
        "recipes = [\"pal4-g16\"]",
        "recipes = [\"int8-c\", \"fp16\", \"int8-c\", { name = \"mix\", recipe = \"a=pal4-g16,b=int8-c\" }]
[[variants.grid]]
method = \"palettize\"
bits = [8, 4]
group_sizes = [8, 16]
[[variants.grid]]
method = \"linear\"
bits = [4]
group_sizes = [32]",
    );
    let plan = parse(&text).unwrap().plan();
    let names: Vec<_> = plan.variants.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(
        names,
        ["fp16", "int8-c", "mix", "pal8-g8", "pal8-g16", "pal4-g8", "pal4-g16", "int4-b32"]
    );
}

#[test]
fn grids_and_mixes_have_defaults() {
    let names = |variants: &str| {
        let text = SMALL.replace("recipes = [\"pal4-g16\"]", variants);
        let plan = parse(&text).unwrap().plan();
        plan.variants.iter().skip(1).map(|v| v.recipe.clone()).collect::<Vec<_>>()
    };
    let palettes = [
        "pal8-g8", "pal8-g16", "pal8-g32", "pal8-t", "pal6-g8", "pal6-g16", "pal6-g32", "pal6-t",
        "pal4-g8", "pal4-g16", "pal4-g32", "pal4-t",
    ];
    let linear = ["int8-c", "int4-b32", "int4-b64"];
    assert_eq!(names("grid = \"default\""), [&palettes[..], &linear[..]].concat());
    assert_eq!(names("[[variants.grid]]\nmethod = \"linear\""), linear);
    assert_eq!(
        names(
            "[[variants.grid]]\nmethod = \"palettize\"\nbits = [4]\ngroup_sizes = [64, \"tensor\"]"
        ),
        ["pal4-g64", "pal4-t"]
    );
    assert_eq!(
        names(
            "mixes = [{ mlp = [\"pal4-g16\"], attention = [\"pal8-g16\", \"pal6-g16\"], rest = [\"int8-c\"] }]"
        ),
        ["int8-c,attention=pal8-g16,mlp=pal4-g16", "int8-c,attention=pal6-g16,mlp=pal4-g16"]
    );
    let budget =
        SMALL.replace("[variants]\nrecipes = [\"pal4-g16\"]", "[budget]\nmax_size = \"2 MB\"");
    let spec = parse(&budget).unwrap();
    let ladder: Vec<_> = spec.plan().variants.into_iter().map(|v| v.recipe).collect();
    assert_eq!(ladder, ["fp16", "pal8-g16", "pal6-g16", "pal4-g16"]);
    assert_eq!(spec.budget.unwrap().max_size, Some(2_000_000));
}

#[test]
fn a_package_takes_the_place_of_a_checkpoint() {
    let text = SMALL.replace("path = \"../m\"\nseq_len = 64", "package = \"../m.mlpackage\"");
    let model = parse(&text).unwrap().model;
    assert_eq!(model.place, Place::Package(PathBuf::from("m.mlpackage")));
    assert_eq!(model.seq_len, None);
}

#[test]
fn what_the_run_may_take_is_read() {
    let text =
        SMALL.replace("[output]", "[run]\nworkers = 2\nmemory = \"4 GiB\"\ncores = 3\n[output]");
    let run = parse(&text).unwrap().run;
    assert_eq!((run.workers, run.memory, run.cores), (Some(2), Some(4 << 30), Some(3)));
}

#[test]
fn outputs_say_what_packages_share() {
    let text = SMALL
        .replace("path = \"../m\"\nseq_len = 64", "package = \"../m.mlpackage\"")
        .replace("dir = \"out\"", "dir = \"out\"\ncache = \"../cache\"\nlink_baseline = true");
    let output = parse(&text).unwrap().output;
    assert_eq!(output.cache.as_deref(), Some(Path::new("cache")));
    assert!(output.link_baseline && !output.fresh);
}

#[test]
fn adapters_come_from_folders_and_from_the_hub() {
    let text = SMALL.replace(
        "path = \"../m\"",
        "repository = \"a/b\"\nrevision = \"main\"
lora = [\"../x\", { repository = \"c/d\", revision = \"1\" }, { repository = \"e/f\" }]",
    );
    let model = parse(&text).unwrap().model;
    let hub = |repository: &str, revision: Option<&str>| Place::Repository {
        repository: repository.to_owned(),
        revision: revision.map(str::to_owned),
    };
    assert_eq!(model.place, hub("a/b", Some("main")));
    let folder = Place::Path(PathBuf::from("x"));
    assert_eq!(model.lora, [folder, hub("c/d", Some("1")), hub("e/f", None)]);
}

#[test]
fn texts_are_inline_or_in_a_file() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("texts.json");
    fs_err::write(&file, r#"["a", {"text": "b", "instruction": "i", "pair": 1}]"#).unwrap();
    let evaluate = |value: &str| {
        let text = format!("{SMALL}\n[evaluate]\nsentences = {value}\n");
        Spec::parse(&text, &root.path().join("a.toml"), &bits).unwrap().evaluate.sentences
    };
    let inline = evaluate(r#"["a", { text = "b", instruction = "i", pair = 1 }]"#);
    assert_eq!(inline.read().unwrap(), evaluate("\"texts.json\"").read().unwrap());
    assert!(evaluate("[]").is_empty());
    fs_err::write(&file, r#"["a", {"txt": "b"}]"#).unwrap();
    let error = evaluate("\"texts.json\"").read().unwrap_err().to_string();
    assert!(error.contains("is no list of texts"), "{error}");
    assert!(evaluate("\"absent.json\"").read().is_err());
}

#[test]
fn mistakes_are_shown_in_their_line_with_what_was_meant() {
    let cases: &[(&str, &str, &str)] = &[
        ("an unknown key", "seq_len = 64", "seqlen = 64"),
        ("an unknown table", "[output]", "[outptu]"),
        ("an unknown gate", "[output]", "[gates]\ndivergance = 0.1\n[output]"),
        ("a threshold that is none", "[output]", "[gates]\ncosine = 2.0\n[output]"),
        ("an unknown choice", "seq_len = 64", "seq_len = 64\nkv_cache = \"sate\""),
        ("an unknown target", "seq_len = 64", "seq_len = 64\ntarget = \"iOS81\""),
        ("a wrong type", "seq_len = 64", "seq_len = \"64\""),
        ("no TOML", "seq_len = 64", "seq_len = "),
        ("a missing key", "seq_len = 64\n", ""),
        ("two places", "path = \"../m\"", "path = \"../m\"\nrepository = \"a/b\""),
        ("no place", "path = \"../m\"\n", ""),
        ("a revision of a folder", "path = \"../m\"", "path = \"../m\"\nrevision = \"main\""),
        ("a chunk that does not divide", "seq_len = 64", "seq_len = 64\nprompt_chunk = 48"),
        ("a recipe that is none", "\"pal4-g16\"", "\"int8-c\", \"pall4-g16\""),
        (
            "a grid of nothing known",
            "recipes = [\"pal4-g16\"]",
            "[[variants.grid]]\nmethod = \"palettize\"\nbits = [4, 5]\ngroup_sizes = [16]",
        ),
        ("no variants", "recipes = [\"pal4-g16\"]", "recipes = []"),
        ("a name that is no file", "\"pal4-g16\"", "{ name = \"a/b\", recipe = \"pal4-g16\" }"),
        ("one name twice", "\"pal4-g16\"", "{ name = \"FP16\", recipe = \"pal4-g16\" }"),
        ("a recipe with unknown keys", "\"pal4-g16\"", "{ recipe = \"pal4-g16\", nam = \"a\" }"),
        ("a window beyond the context", "[output]", "[evaluate]\nwindow = 65\n[output]"),
        (
            "a stride beyond the window",
            "[output]",
            "[evaluate]\nwindow = 32\nstride = 33\n[output]",
        ),
        ("no windows", "[output]", "[evaluate]\nwindows = 0\n[output]"),
        ("no tokens of the reference", "[output]", "[evaluate]\ntop_k = 0\n[output]"),
        ("a switch that is none", "[output]", "[evaluate]\nnoise_floor = 1\n[output]"),
        ("an unknown key of variants", "recipes =", "recipe ="),
        (
            "an unknown key of a grid",
            "recipes = [\"pal4-g16\"]",
            "[[variants.grid]]\nmethod = \"palettize\"\nbits = [4]\ngroup_size = [16]",
        ),
        (
            "an unknown method",
            "recipes = [\"pal4-g16\"]",
            "[[variants.grid]]\nmethod = \"paletize\"",
        ),
        ("an unknown grid", "recipes = [\"pal4-g16\"]", "grid = \"defualt\""),
        (
            "a size that is none",
            "recipes = [\"pal4-g16\"]",
            "[[variants.grid]]\nmethod = \"palettize\"\ngroup_sizes = [16, \"channel\"]",
        ),
        (
            "an unknown part of a mix",
            "recipes = [\"pal4-g16\"]",
            "mixes = [{ atention = [\"pal4-g16\"] }]",
        ),
        (
            "a mix of too many",
            "recipes = [\"pal4-g16\"]",
            "mixes = [{ mlp = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\"], head = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\"], rest = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\"], attention = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\"], other = [\"a\", \"b\"] }]",
        ),
        ("a mix of nothing", "recipes = [\"pal4-g16\"]", "mixes = [{}]"),
        ("an unknown key of an evaluation", "[output]", "[evaluate]\nwindw = 3\n[output]"),
        (
            "an unknown key of a sentence",
            "[output]",
            "[evaluate]\nsentences = [{ text = \"a\", pairs = 1 }]\n[output]",
        ),
        (
            "an unknown key of an adapter",
            "seq_len = 64",
            "seq_len = 64\nlora = [{ repo = \"a/b\" }]",
        ),
        ("an unknown key of the output", "dir = \"out\"", "dir = \"out\"\nkep = \"all\""),
        ("a link to no package", "dir = \"out\"", "dir = \"out\"\nlink_baseline = true"),
        ("a cache that is none", "dir = \"out\"", "dir = \"out\"\ncache = true"),
        ("an unknown choice of what stays", "dir = \"out\"", "dir = \"out\"\nkeep = \"parto\""),
        ("an unknown key of a budget", "[output]", "[budget]\nmax_sizes = 1\n[output]"),
        ("a budget of nothing", "[output]", "[budget]\nprobes = false\n[output]"),
        ("a budget that is no size", "[output]", "[budget]\nmax_size = \"2 pounds\"\n[output]"),
        ("a budget of no bytes", "[output]", "[budget]\nmax_size = 0\n[output]"),
        ("a budget of no bits", "[output]", "[budget]\nmax_bits_per_weight = 0.0\n[output]"),
        ("an unknown key of the run", "[output]", "[run]\nworker = 2\n[output]"),
        ("no workers", "[output]", "[run]\nworkers = 0\n[output]"),
        ("a package that is to be converted", "path = \"../m\"", "package = \"../m.mlpackage\""),
    ];
    let mut out = Vec::new();
    for (name, from, to) in cases {
        assert!(SMALL.contains(from), "{name}");
        let error = parse(&SMALL.replace(from, to)).expect_err(name);
        out.push(format!("# {name}\n{error}"));
        out.extend(error.hint().map(|hint| format!("hint: {hint}")));
        out.push(String::new());
    }
    insta::assert_snapshot!(out.join("\n"));
}
