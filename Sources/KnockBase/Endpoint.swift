/// A host and perhaps a port: `HOST`, `HOST:PORT`, `[ADDRESS]`, `[ADDRESS]:PORT`, or an IPv6 address without
/// brackets. The resolver decides whether the host is valid.
public struct Endpoint {
  /// Where the host is in the text, without brackets. Not empty.
  public let host: Range<Int>
  public let port: UInt16?

  public init?(_ text: Span<UInt8>) {
    let colon = UInt8(ascii: ":")
    var colons = 0
    for index in text.indices where text[index] == colon { colons += 1 }
    let isBracketed = text.hasPrefix("[")
    let start = isBracketed ? 1 : 0
    let stop = isBracketed ? UInt8(ascii: "]") : colons == 1 ? colon : 0
    var end = start
    while end < text.count, text[end] != stop { end += 1 }
    host = start..<end
    if isBracketed { end += 1 }
    guard end <= text.count, !host.isEmpty else { return nil }
    let rest = text.extracting(end...)
    if rest.isEmpty {
      port = nil
    } else {
      guard rest[0] == colon, let port = Numbers.port(rest.extracting(1...)) else { return nil }
      self.port = port
    }
  }
}
