//! From text to a program: the grammar of functions, blocks, operations and types.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::lexer::{Lexer, Position, TextError, Token, What};
use super::opset;
use super::{MAX_DEPTH, MAX_PARTS};
use crate::mil::{
    Arg, Block, DType, Dim, Function, NamedType, Op, Program, TensorType, Type, Value,
};

/// Reads a program.
pub fn read(text: &str) -> Result<Program, TextError> {
    let mut parser = Parser::new(text)?;
    let program = parser.program()?;
    parser.expect_end()?;
    Ok(program)
}

/// A text and the token that comes next in it.
pub(super) struct Parser<'t> {
    lexer: Lexer<'t>,
    at: Position,
    token: Token<'t>,
    /// Blocks and types around what is read.
    depth: usize,
    /// Operations, arguments, types and values that there are already.
    parts: usize,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Result<Self, TextError> {
        let mut lexer = Lexer::new(text);
        let (at, token) = lexer.next()?;
        Ok(Self { lexer, at, token, depth: 0, parts: 0 })
    }

    /// Goes on to the next token and gives the one that was there.
    pub(super) fn advance(&mut self) -> Result<Token<'t>, TextError> {
        let (at, token) = self.lexer.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// The token that comes next.
    pub(super) fn token(&self) -> &Token<'t> {
        &self.token
    }

    /// Start of the next token.
    pub(super) fn at(&self) -> Position {
        self.at
    }

    pub(super) fn is_mark(&self, mark: char) -> bool {
        self.token == Token::Mark(mark)
    }

    /// Goes past `mark` if it comes next.
    pub(super) fn skip(&mut self, mark: char) -> Result<bool, TextError> {
        let there = self.is_mark(mark);
        if there {
            self.advance()?;
        }
        Ok(there)
    }

    pub(super) fn expect(&mut self, mark: char) -> Result<(), TextError> {
        if self.skip(mark)? { Ok(()) } else { Err(self.unexpected(&format!("`{mark}`"))) }
    }

    /// Goes past `word`, a name or a keyword.
    pub(super) fn keyword(&mut self, word: &str) -> Result<(), TextError> {
        if self.token == Token::Word(word) {
            self.advance()?;
            return Ok(());
        }
        Err(self.unexpected(&format!("`{word}`")))
    }

    /// A name: an identifier, or a string where it is none.
    fn name(&mut self, what: &str) -> Result<String, TextError> {
        if matches!(self.token, Token::Word(_) | Token::Text(_)) {
            return Ok(match self.advance()? {
                Token::Word(word) => word.to_owned(),
                Token::Text(text) => text,
                _ => String::new(),
            });
        }
        Err(self.unexpected(what))
    }

    /// The error that says what belongs where the next token stands.
    pub(super) fn unexpected(&self, expected: &str) -> TextError {
        let what = What::Expected { expected: expected.to_owned(), found: self.token.to_string() };
        TextError { at: self.at, what }
    }

    fn expect_end(&self) -> Result<(), TextError> {
        if self.token == Token::End { Ok(()) } else { Err(self.unexpected("the end of the text")) }
    }

    /// Items of `read` with commas between them, up to `close`, which is gone past.
    pub(super) fn list<T>(
        &mut self,
        close: char,
        read: &mut dyn FnMut(&mut Self) -> Result<T, TextError>,
    ) -> Result<Vec<T>, TextError> {
        let mut items = Vec::new();
        if self.skip(close)? {
            return Ok(items);
        }
        loop {
            items.push(read(self)?);
            if self.skip(close)? {
                return Ok(items);
            }
            if !self.skip(',')? {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
    }

    /// Reads something one level deeper.
    pub(super) fn deeper<T>(
        &mut self,
        read: &mut dyn FnMut(&mut Self) -> Result<T, TextError>,
    ) -> Result<T, TextError> {
        if self.depth == MAX_DEPTH {
            return Err(TextError { at: self.at, what: What::Depth });
        }
        self.depth += 1;
        let outcome = read(self);
        self.depth -= 1;
        outcome
    }

    /// Counts `n` more operations, arguments, types or values: a few characters can be each of them.
    pub(super) fn count_parts(&mut self, n: usize) -> Result<(), TextError> {
        self.parts = self.parts.saturating_add(n);
        if self.parts > MAX_PARTS {
            return Err(TextError { at: self.at, what: What::Parts });
        }
        Ok(())
    }

    fn program(&mut self) -> Result<Program, TextError> {
        self.keyword("program")?;
        self.expect('(')?;
        let version = self.version()?;
        self.expect(')')?;
        let attributes = self.attributes()?;
        self.expect('{')?;
        let mut functions = BTreeMap::new();
        while !self.skip('}')? {
            let at = self.at;
            let (name, function) = self.function()?;
            insert(&mut functions, "function", name, function, at)?;
        }
        Ok(Program { version, functions, attributes })
    }

    /// `1.3`: what stands before the point is the version of the format.
    fn version(&mut self) -> Result<i64, TextError> {
        let version = match &self.token {
            Token::Number(text) => text.split('.').next().and_then(|major| major.parse().ok()),
            _ => None,
        };
        let version = version.ok_or_else(|| self.unexpected("a version such as `1.0`"))?;
        self.advance()?;
        Ok(version)
    }

    fn function(&mut self) -> Result<(String, Function), TextError> {
        self.keyword("func")?;
        let name = self.name("the function's name")?;
        self.expect('<')?;
        let opset = opset::from_text(&self.name("an opset such as `ios18`")?);
        self.expect('>')?;
        self.expect('(')?;
        let inputs = self.list(')', &mut Self::named_type)?;
        let attributes = self.attributes()?;
        let block = self.body(Vec::new(), BTreeMap::new())?;
        self.skip(';')?;
        Ok((name, Function { inputs, opset, block, attributes }))
    }

    /// `{ operations } -> (outputs)`.
    fn body(
        &mut self,
        inputs: Vec<NamedType>,
        attributes: BTreeMap<String, Value>,
    ) -> Result<Block, TextError> {
        self.expect('{')?;
        let mut ops = Vec::new();
        while !self.skip('}')? {
            ops.push(self.op()?);
        }
        if self.token != Token::Arrow {
            return Err(self.unexpected("`->`"));
        }
        self.advance()?;
        self.expect('(')?;
        let outputs = self.list(')', &mut |p| p.name("the name of an output"))?;
        Ok(Block { inputs, outputs, ops, attributes })
    }

    /// `type name, … = kind(arguments)[attributes] { blocks };`, the results left out where there are none.
    fn op(&mut self) -> Result<Op, TextError> {
        self.count_parts(1)?;
        let mut outputs = Vec::new();
        let kind = loop {
            let at = self.at;
            let word = self.name("an operation or `}`")?;
            // The kind of an operation without results stands right before its arguments.
            if outputs.is_empty() && self.is_mark('(') {
                break word;
            }
            outputs.push(self.named_type_after(&word, at)?);
            if !self.skip(',')? {
                self.expect('=')?;
                break self.name("the operation's kind")?;
            }
        };
        self.expect('(')?;
        let mut inputs = BTreeMap::new();
        self.list(')', &mut |p| {
            let at = p.at;
            let parameter = p.name("a parameter's name")?;
            p.expect('=')?;
            let bound = p.argument()?;
            insert(&mut inputs, "argument", parameter, bound, at)
        })?;
        let attributes = self.attributes()?;
        let mut blocks = Vec::new();
        if self.skip('{')? {
            while !self.skip('}')? {
                blocks.push(self.deeper(&mut Self::block)?);
            }
        }
        if !self.skip(';')? && blocks.is_empty() {
            return Err(self.unexpected("`;`"));
        }
        Ok(Op { kind, inputs, outputs, blocks, attributes })
    }

    /// `block(inputs)[attributes] { operations } -> (outputs);`.
    fn block(&mut self) -> Result<Block, TextError> {
        self.name("a block")?;
        self.expect('(')?;
        let inputs = self.list(')', &mut Self::named_type)?;
        let attributes = self.attributes()?;
        let block = self.body(inputs, attributes)?;
        self.skip(';')?;
        Ok(block)
    }

    /// What a parameter is bound to: a name, a value, or several of them in parentheses.
    fn argument(&mut self) -> Result<Vec<Arg>, TextError> {
        if self.skip('(')? {
            return self.list(')', &mut Self::one_argument);
        }
        Ok(vec![self.one_argument()?])
    }

    fn one_argument(&mut self) -> Result<Arg, TextError> {
        self.count_parts(1)?;
        let at = self.at;
        let is_text = matches!(self.token, Token::Text(_));
        let word = self.name("a name or a value")?;
        // A value is a type with parentheses behind it; `tensor`, `list` and the like have `<` there.
        if !is_text && (self.is_mark('<') || self.is_mark('(')) {
            let ty = self.type_after(&word, at)?;
            return Ok(Arg::Value(self.content(ty)?));
        }
        Ok(Arg::Name(word))
    }

    /// `[name = value, …]`, or nothing.
    fn attributes(&mut self) -> Result<BTreeMap<String, Value>, TextError> {
        let mut attributes = BTreeMap::new();
        if self.skip('[')? {
            self.list(']', &mut |p| {
                let at = p.at;
                let name = p.name("an attribute's name")?;
                p.expect('=')?;
                let value = p.value()?;
                insert(&mut attributes, "attribute", name, value, at)
            })?;
        }
        Ok(attributes)
    }

    fn named_type(&mut self) -> Result<NamedType, TextError> {
        let at = self.at;
        let word = self.name("a type")?;
        self.named_type_after(&word, at)
    }

    fn named_type_after(&mut self, word: &str, at: Position) -> Result<NamedType, TextError> {
        let ty = self.type_after(word, at)?;
        Ok(NamedType { name: self.name("a name")?, ty })
    }

    /// A type.
    pub(super) fn ty(&mut self) -> Result<Type, TextError> {
        let at = self.at;
        let word = self.name("a type")?;
        self.type_after(&word, at)
    }

    /// The type that begins with `word`, which is gone past and stood at `at`.
    fn type_after(&mut self, word: &str, at: Position) -> Result<Type, TextError> {
        self.count_parts(1)?;
        if let Some(dtype) = DType::from_name(word) {
            return Ok(Type::tensor(dtype, &[]));
        }
        let inner = |p: &mut Self| p.deeper(&mut Self::ty).map(Box::new);
        if !matches!(word, "tensor" | "list" | "tuple" | "dict" | "state") {
            let what = What::Expected { expected: "a type".to_owned(), found: format!("`{word}`") };
            return Err(TextError { at, what });
        }
        self.expect('<')?;
        let ty = match word {
            "tensor" => Type::Tensor(self.tensor_type()?),
            "list" => {
                let element = inner(self)?;
                self.expect(',')?;
                Type::List(element, self.dim()?)
            }
            "tuple" => {
                return Ok(Type::Tuple(self.list('>', &mut |p| p.deeper(&mut Self::ty))?));
            }
            "dict" => {
                let key = inner(self)?;
                self.expect(',')?;
                Type::Dictionary(key, inner(self)?)
            }
            _ => Type::State(inner(self)?),
        };
        self.expect('>')?;
        Ok(ty)
    }

    fn tensor_type(&mut self) -> Result<TensorType, TextError> {
        let at = self.at;
        let name = self.name("an element type")?;
        let dtype = DType::from_name(&name).ok_or_else(|| {
            let found = format!("`{name}`");
            let what = What::Expected { expected: "an element type".to_owned(), found };
            TextError { at, what }
        })?;
        self.expect(',')?;
        self.expect('[')?;
        let at = self.at;
        let shape = self.list(']', &mut Self::dim)?;
        if shape.len() > MAX_DEPTH {
            return Err(TextError { at, what: What::Depth });
        }
        Ok(TensorType { dtype, shape, attributes: BTreeMap::new() })
    }

    /// An extent: a number, `?` where it is known only when run, `...` for any number of dimensions.
    fn dim(&mut self) -> Result<Dim, TextError> {
        let dim = match &self.token {
            Token::Number(text) => text.parse().ok().map(Dim::Fixed),
            Token::Mark('?') => Some(Dim::Unknown { variadic: false }),
            Token::Dots => Some(Dim::Unknown { variadic: true }),
            _ => None,
        };
        let dim = dim.ok_or_else(|| self.unexpected("an extent or `?`"))?;
        self.advance()?;
        Ok(dim)
    }
}

fn insert<T>(
    map: &mut BTreeMap<String, T>,
    kind: &'static str,
    name: String,
    value: T,
    at: Position,
) -> Result<(), TextError> {
    if map.contains_key(&name) {
        return Err(TextError { at, what: What::Twice { kind, name } });
    }
    map.insert(name, value);
    Ok(())
}
