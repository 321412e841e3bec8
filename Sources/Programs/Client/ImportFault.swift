import KnockBase
import KnockServer

/// Why `client import` has written nothing.
enum ImportFault: Error {
  /// The standard input.
  case input(KeyError)
  case line(ServerLine.Fault)
  case noFolder
  /// client.conf has such a name.
  case nameTaken(Argument)
  /// client.conf is a symbolic link.
  case link(Argument)
  case readableByOthers(Argument)
  case file(Argument, SystemError)
}

extension ImportFault: MessageConvertible {
  var message: Message {
    switch self {
    case .input(let error): "standard input: \(error)"
    case .line(.form): "standard input: this is no line of pyknock keygen --line; copy all of it"
    case .line(.name): "standard input: the name before @ is not \(UserName.rule)"
    case .line(.host): "standard input: no HOST:PORT or [ADDRESS]:PORT between @ and #"
    case .noFolder: "neither XDG_CONFIG_HOME nor HOME is set to a directory"
    case .nameTaken(let path):
      "\(quoted: path) has a Host with this name; write another: pyknock client import NAME"
    case .link(let path):
      "\(quoted: path) is a symbolic link, which would be replaced; add the section by hand"
    case .readableByOthers(let path):
      "others can read \(quoted: path); first run: chmod 600 \(quoted: path)"
    case .file(let path, let error): "\(quoted: path): \(error)"
    }
  }
}
