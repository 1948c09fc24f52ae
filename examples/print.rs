//! scratch
fn main(){ let p=coremill::package::Package::open(std::path::Path::new(&std::env::args().nth(1).unwrap())).unwrap(); println!("{}", coremill::mil::print::program(p.program()));
 if std::env::args().nth(2).is_some() { coremill::mil::edit::for_each_op(p.program(), &mut |_,o| if o.kind.starts_with("constexpr") { println!("{o:?}") }); } }
