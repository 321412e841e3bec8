import KnockBase
import KnockProtocol
import KnockServer

/// The text of a log line, always written as one literal: `"not closed: \(knock), trying again in a minute"`.
///
/// A message goes into the one line buffer of the process while it is evaluated. So it is passed to
/// `log` or returned, and never kept in a variable.
struct Message: ExpressibleByStringInterpolation {
  @inline(__always) init(stringLiteral text: StaticString) {
    Self.append(Literal(stringLiteral: text))
  }

  @inline(__always) init(stringInterpolation: Parts) {}

  typealias StringInterpolation = Parts

  /// Appends a literal, which ends with a NUL. A pointer alone makes each of the hundreds of calls shorter.
  @inline(never)
  fileprivate static func append(_ text: Literal) {
    var next = unsafe text.start
    while unsafe next.pointee != 0 {
      unsafe messageText.append(byte: next.pointee)
      unsafe next += 1
    }
  }

  /// Begins the next message.
  @inline(never)
  static func removeAll() {
    unsafe messageText.removeAll()
    unsafe messageSubject = MessageSubject()
  }

  struct Parts: StringInterpolationProtocol {
    @inline(__always) init(literalCapacity: Int, interpolationCount: Int) {}

    /// Writes a part. All go to the same kind of sink, so that each writer is in the program once.
    @inline(__always) func write(_ part: (inout TextBuffer<1024>) -> Void) {
      unsafe part(&messageText)
    }

    /// The compiler also calls this with empty text: between two values, and before and after one. It knows the
    /// length, so nothing is left of such a call.
    @inline(__always) mutating func appendLiteral(_ text: StaticString) {
      if text.utf8CodeUnitCount > 0 { Message.append(Literal(stringLiteral: text)) }
    }
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
  @inline(__always)
  mutating func appendInterpolation(_ text: Literal) { Message.append(text) }

  @inline(__always)
  mutating func appendInterpolation<Number: BinaryInteger>(_ number: Number) {
    if Number.isSigned {
      append(signed: Int64(truncatingIfNeeded: number))
    } else {
      append(unsigned: UInt64(truncatingIfNeeded: number))
    }
  }

  @inline(never)
  private mutating func append(signed number: Int64) { write { $0.append(signed: number) } }

  @inline(never)
  private mutating func append(unsigned number: UInt64) {
    write { $0.append(digitsOf: number, base: 10) }
  }

  /// `2.5`, from microseconds.
  mutating func appendInterpolation(seconds microseconds: Int64) {
    write { $0.append(seconds: microseconds) }
  }

  /// `+2.5`, from microseconds.
  mutating func appendInterpolation(signedSeconds microseconds: Int64) {
    write { $0.append(signedSeconds: microseconds) }
  }

  @inline(never)
  mutating func appendInterpolation(_ address: Address) { write { $0.append(address) } }

  /// `192.0.2.1:60120` or `[2001:db8::1]:60120`.
  @inline(never)
  mutating func appendInterpolation(_ address: SocketAddress) { write { $0.append(address) } }

  /// `open 192.0.2.1`. In a log of JSON objects it also gets fields of its own.
  @inline(never)
  mutating func appendInterpolation(_ knock: Knock) {
    unsafe messageSubject.knock = knock
    write { $0.append(knock) }
  }

  @inline(never)
  mutating func appendInterpolation(_ user: UserName) { write { $0.append(user) } }

  /// ` by alice`, or nothing for the user without a name. In a log of JSON objects it also gets a field of its own.
  @inline(never)
  mutating func appendInterpolation(by user: UserName) {
    guard !user.isEmpty else { return }
    unsafe messageSubject.user = user
    write {
      $0.append(" by ")
      $0.append(user)
    }
  }

  /// Where a datagram came from. In a log of JSON objects it also gets a field of its own.
  @inline(never)
  mutating func appendInterpolation(source: SocketAddress) {
    unsafe messageSubject.source = source
    write { $0.append(source) }
  }

  /// A string of the C library, such as that of strerror(3).
  mutating func appendInterpolation(cString text: UnsafePointer<CChar>?) {
    write { unsafe $0.append(cString: text) }
  }

  mutating func appendInterpolation(_ value: some MessageConvertible) { _ = value.message }

  /// Untrusted text that cannot be the key, between quotes. A key of version 2 is never shown.
  @inline(never)
  mutating func appendInterpolation(quoted text: Argument) {
    if text.withBytes({ Version2.KeyBytes.isMeant(by: $0) }) {
      _ = Self.hidden
    } else {
      write { $0.append(quoted: text) }
    }
  }

  private static var hidden: Message { "the value (not shown, it may be the key)" }

  /// An argument between quotes, or a remark instead of it if it may be the key.
  @inline(never)
  mutating func appendInterpolation(argument: Argument) {
    if log.showsArguments {
      appendInterpolation(quoted: argument)
    } else {
      _ = Self.hidden
    }
  }
}
