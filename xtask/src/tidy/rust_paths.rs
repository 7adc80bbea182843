//! Reads from Rust source every path it names (`a::b::c`), with groups (`a::{b, c::d}`) taken apart. It sees tokens, as
//! the compiler does: comments and strings are not code, and what stands inside a macro call is.
use std::iter::Peekable;

use proc_macro2::{Delimiter, Group, LexError, TokenStream, TokenTree, token_stream};

/// A path in a file. An identifier alone is a path of one segment.
#[derive(Debug, PartialEq, Eq)]
pub struct RustPath {
    /// `["a", "b", "c"]`; a glob ends in `*`.
    pub segments: Vec<String>,
    /// From 1.
    pub line: usize,
    /// Whether it stands in an item under `#[cfg(test)]`.
    pub in_test: bool,
}

/// All paths of a file, in order.
///
/// # Errors
/// When the text is not made of Rust's tokens.
pub fn read(text: &str) -> Result<Vec<RustPath>, LexError> {
    let mut reader = Reader { paths: Vec::new() };
    reader.stream(text.parse()?, &[], false);
    Ok(reader.paths)
}

type Tokens = Peekable<token_stream::IntoIter>;

struct Reader {
    paths: Vec<RustPath>,
}

impl Reader {
    /// Reads tokens; `prefix` is the path whose braces they stand in.
    fn stream(&mut self, stream: TokenStream, prefix: &[String], in_test: bool) {
        let mut tokens = stream.into_iter().peekable();
        // From `#[cfg(test)]` to the end of the item that it stands before.
        let mut test_item = false;
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(name) if name == "as" && !prefix.is_empty() => drop(tokens.next()),
                TokenTree::Ident(name) => {
                    let start = name.span().start().line;
                    self.path(name.to_string(), start, &mut tokens, prefix, in_test || test_item);
                }
                TokenTree::Group(group) => {
                    test_item |= is_cfg_test(&group);
                    self.stream(group.stream(), &[], in_test || test_item);
                    test_item &= group.delimiter() != Delimiter::Brace;
                }
                TokenTree::Punct(mark) => test_item &= mark.as_char() != ';',
                TokenTree::Literal(_) => {}
            }
        }
    }

    /// Reads the rest of a path that begins with `name`.
    fn path(&mut self, name: String, line: usize, tokens: &mut Tokens, prefix: &[String], in_test: bool) {
        let mut segments = prefix.to_vec();
        segments.push(name);
        while skip_colons(tokens) {
            match tokens.next() {
                Some(TokenTree::Ident(name)) => segments.push(name.to_string()),
                Some(TokenTree::Punct(mark)) if mark.as_char() == '*' => segments.push("*".to_owned()),
                Some(TokenTree::Group(group)) => return self.stream(group.stream(), &segments, in_test),
                _ => break,
            }
        }
        if !prefix.is_empty() && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        self.paths.push(RustPath { segments, line, in_test });
    }
}

/// Steps over `::`. A single colon, as before a type, is lost too: nothing here looks for one.
fn skip_colons(tokens: &mut Tokens) -> bool {
    let mut colon =
        || tokens.next_if(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ':')).is_some();
    colon() && colon()
}

fn is_cfg_test(group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket && group.stream().to_string().replace(' ', "") == "cfg(test)"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        read(text).unwrap().into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn groups_are_taken_apart() {
        let paths = of("use std::{self, fs, net::{IpAddr, TcpStream as Tcp}, io::*};");
        assert_eq!(paths, ["use", "std", "std::fs", "std::net::IpAddr", "std::net::TcpStream", "std::io::*"]);
    }

    #[test]
    fn comments_and_strings_are_not_code_but_macro_calls_are() {
        assert_eq!(of("/* a::b */ \"c::d\" // e::f\n"), Vec::<String>::new());
        assert_eq!(of("println!(\"{}\", a::b());"), ["println", "a::b"]);
        assert_eq!(of("let x: a::b = ::c::d::<e::f>();"), ["let", "x", "a::b", "c::d", "e::f"]);
    }

    #[test]
    fn lines_and_test_items_are_told() {
        let text = "use a::b;\n#[cfg(test)]\nuse c::d;\nfn f() {}\n#[cfg(test)]\nmod tests {\n use e::f;\n}\nuse g::h;\n";
        let paths = read(text).unwrap().into_iter().filter(|path| path.segments.len() == 2);
        let seen: Vec<_> = paths.map(|path| (path.segments.join("::"), path.line, path.in_test)).collect();
        let expected = [("a::b", 1, false), ("c::d", 3, true), ("e::f", 7, true), ("g::h", 9, false)];
        assert_eq!(seen, expected.map(|(path, line, in_test)| (path.to_owned(), line, in_test)));
    }
}
