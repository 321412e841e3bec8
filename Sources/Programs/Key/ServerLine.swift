import KnockBase
import KnockProtocol
import KnockServer

/// `pyknock2:NAME@HOST:PORT#KEY`: all that a client needs to know of a server. See doc/PROTOCOL.md.
struct ServerLine {
  /// Where the parts are in the line. The host is without brackets.
  let user, host, key: Range<Int>
  let port: UInt16

  enum Fault: Error {
    case form, name, host
  }

  /// Reads all but the key.
  init(_ line: Span<UInt8>) throws(Fault) {
    guard line.hasPrefix(Self.scheme), let hash = line.firstIndex(of: UInt8(ascii: "#")) else {
      throw .form
    }
    // A name may have an @ in it, a host not.
    var at = hash
    repeat { at -= 1 } while at > 0 && line[at] != UInt8(ascii: "@")
    user = Self.scheme.count..<max(at, Self.scheme.count)
    guard UserName(line.extracting(user)) != nil else { throw .name }
    guard let server = Endpoint(ofServer: line.extracting(at + 1..<hash)), let port = server.port
    else { throw .host }
    host = at + 1 + server.host.lowerBound..<at + 1 + server.host.upperBound
    self.port = port
    key = hash + 1..<line.count
  }

  fileprivate static var scheme: Literal { "pyknock2:" }
}

extension Endpoint {
  static var accepted: Literal { "HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT" }

  /// Nil unless the host is a name, an IPv4 address or, in brackets, an IPv6 address that other machines know, too.
  init?(ofServer text: Span<UInt8>) {
    self.init(text)
    let name = text.extracting(host)
    let address = Address(unmapped: name)
    guard host.lowerBound > 0 ? address?.family == .inet6 : name.isServerName,
      address?.refusal == nil
    else { return nil }
  }
}

extension Span<UInt8> {
  /// Whether it has at most 253 letters, digits, `-`, `_` and `.`, begins with a letter or digit, and is no key.
  @inline(never)
  var isServerName: Bool {
    for index in indices {
      switch self[index] {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
        UInt8(ascii: "A")...UInt8(ascii: "Z"):
        continue
      case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
        if index == 0 { return false }
      default: return false
      }
    }
    return !isEmpty && count <= 253 && !Version2.KeyBytes.isMeant(by: self)
  }
}

extension StorageText {
  /// Appends a line as above.
  ///
  /// - Parameter host: without brackets.
  mutating func appendLine(
    user: Span<UInt8>, host: Span<UInt8>, port: UInt16, key: Span<UInt8>
  ) {
    append(ServerLine.scheme)
    append(user)
    append("@")
    let isAddress = host.firstIndex(of: UInt8(ascii: ":")) != nil
    if isAddress { append("[") }
    append(host)
    append(isAddress ? "]:" : ":")
    append(port)
    append("#")
    append(key)
    append("\n")
  }

  /// Appends the same as a section of client.conf.
  ///
  /// - Parameter name: what the client calls the server.
  @inline(never)
  mutating func appendSection(
    name: Span<UInt8>, user: Span<UInt8>, host: Span<UInt8>, port: UInt16, key: Span<UInt8>
  ) {
    append("# The key of ")
    append(user)
    append("\nHost ")
    append(name)
    append("\n    HostName ")
    append(host)
    append("\n    Port ")
    append(port)
    append("\n    Key ")
    append(key)
    append("\n")
  }
}
