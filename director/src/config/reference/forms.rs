//! Forms of values that several keys have. What an expression cannot say (that an address is one, that a name is there), the reader says.

use super::Form;

/// Any text but an empty one.
pub(super) const TEXT: Form = Form::Text("a text", "^[\\s\\S]+$");
/// An address of one host.
pub(super) const ADDRESS: Form = Form::Text("an IPv4 or IPv6 address", "^[0-9A-Fa-f.:]+$");
/// An address or a range.
pub(super) const RANGE: Form =
    Form::Text("an address, or a range of at most 1,024", "^[0-9A-Fa-f.:]+( *- *[0-9A-Fa-f.:]+)?$");
/// An address and its prefix length.
pub(super) const NETWORK: Form =
    Form::Text("an address and its prefix length", "^[0-9A-Fa-f.:]+/[0-9]{1,3}$");
/// An address with or without a port.
pub(super) const ENDPOINT: Form =
    Form::Text("an address, with or without a port", "^([0-9A-Fa-f.:]+|\\[[0-9A-Fa-f.:]+\\]:[0-9]{1,5})$");
/// An address and a port.
pub(super) const LISTEN: Form =
    Form::Text("an address and a port", "^([0-9.]+|\\[[0-9A-Fa-f.:%]+\\]):[0-9]{1,5}$");
/// A name of ours.
pub(super) const NAME: Form =
    Form::Text("1 to 63 letters, digits, `.`, `_`, `-`; unique", "^[A-Za-z0-9._-]{1,63}$");
/// The name of something that is named elsewhere, too.
pub(super) const NAMED: Form = Form::Text("a name", "^[A-Za-z0-9._-]{1,63}$");
/// A network interface.
pub(super) const INTERFACE: Form = Form::Text("an interface's name, 1 to 15 characters", "^[^/:%\\s]{1,15}$");
/// An absolute path.
pub(super) const PATH: Form = Form::Text("an absolute path", "^/");
/// A file with a secret in it.
pub(super) const SECRET: Form = Form::Text("absolute path of a file that holds the secret alone", "^/");
/// A PEM file.
pub(super) const PEM: Form = Form::Text("absolute path of a PEM file", "^/");
/// A regular expression.
pub(super) const EXPRESSION: Form = Form::Text("a regular expression", "^[\\s\\S]+$");
/// An absolute domain name.
pub(super) const DOMAIN: Form =
    Form::Text("a domain name with a dot at its end", "^([A-Za-z0-9_-]{1,63}\\.)+$");
/// An e-mail address.
pub(super) const MAIL: Form = Form::Text("an e-mail address", "^[^@]+@[^@]+$");
/// A port.
pub(super) const PORT: Form = Form::Whole(1, 65535);
/// A program and its arguments.
pub(super) const COMMAND: Form =
    Form::List(&Form::Text("the program's absolute path, then arguments", "^[\\s\\S]+$"), 1, None);
/// Addresses of hosts.
pub(super) const ADDRESSES: Form = Form::List(&ADDRESS, 0, Some(64));
/// The ports of a service.
pub(super) const PORTS: Form = Form::Either(&[
    PORT,
    Form::Text("a range as `8000-8100`", "^ *[0-9]{1,5} *(- *[0-9]{1,5} *)?$"),
    Form::List(&Form::Either(&[PORT, Form::Text("a range", "^ *[0-9]{1,5} *(- *[0-9]{1,5} *)?$")]), 1, None),
    Form::Word(&["any"]),
]);
/// How long flows and persistence last.
pub(super) const IDLE: Form = Form::Duration("1s", "8h");
