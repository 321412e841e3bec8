import KnockBase
import KnockProtocol

/// The text of a log line, always written as one literal: `"not closed: \(knock), trying again in a minute"`.
///
/// A message goes into the one line buffer of the process while it is evaluated. So it is passed to
/// `log` or returned, and never kept in a variable.
struct Message: ExpressibleByStringInterpolation {
  @inline(__always) init(stringLiteral text: StaticString) { Self.append(text) }

  @inline(__always) init(stringInterpolation: Parts) {}

  typealias StringInterpolation = Parts

  @inline(never)
  fileprivate static func append(_ text: StaticString) { unsafe messageLine.append(text) }

  struct Parts: StringInterpolationProtocol, TextSink {
    @inline(__always) init(literalCapacity: Int, interpolationCount: Int) {}

    mutating func append(byte: UInt8) { unsafe messageLine.append(byte: byte) }

    @inline(__always) mutating func appendLiteral(_ text: StaticString) { Message.append(text) }
  }
}

/// A value that a message explains: an error, for one.
protocol MessageConvertible {
  /// What goes into a message: `"others may write it; chmod 600 prevents that"`.
  var message: Message { get }
}

/// A message can be a part of another one.
extension Message: MessageConvertible {
  var message: Message { self }
}

extension Message.Parts {
  mutating func appendInterpolation(_ text: StaticString) { Message.append(text) }

  mutating func appendInterpolation(_ number: some BinaryInteger) { append(number) }

  /// `2.5`, from microseconds.
  mutating func appendInterpolation(seconds microseconds: Int64) { append(seconds: microseconds) }

  mutating func appendInterpolation(_ address: Address) { append(address) }

  /// `192.0.2.1:60120` or `[2001:db8::1]:60120`.
  mutating func appendInterpolation(_ address: SocketAddress) { append(address) }

  /// `open 192.0.2.1`. In a log of JSON objects it also gets fields of its own.
  @inline(never)
  mutating func appendInterpolation(_ knock: Knock) {
    unsafe messageLine.knock = knock
    append(knock)
  }

  /// Where a datagram came from. In a log of JSON objects it also gets a field of its own.
  @inline(never)
  mutating func appendInterpolation(source: SocketAddress) {
    unsafe messageLine.source = source
    append(source)
  }

  /// A string of the C library, such as that of strerror(3).
  mutating func appendInterpolation(cString text: UnsafePointer<CChar>?) {
    unsafe append(cString: text)
  }

  mutating func appendInterpolation(_ value: some MessageConvertible) { _ = value.message }

  /// Untrusted text that cannot be the key, between quotes.
  mutating func appendInterpolation(quoted text: Argument) { append(quoted: text) }

  /// An argument between quotes, or a remark instead of it if it may be the key.
  @inline(never)
  mutating func appendInterpolation(argument: Argument) {
    if log.showsArguments {
      append(quoted: argument)
    } else {
      append("the value (not shown, it may be the key)")
    }
  }
}
