/// A text of the program: a string literal without a NUL in it. It is one pointer, since a NUL follows it. A
/// `StaticString` is three words in each call, error and table.
///
/// Sendable because nothing writes to it.
@safe public struct Literal: ExpressibleByStringLiteral, @unchecked Sendable {
  /// For a system call.
  public let start: UnsafePointer<UInt8>

  @inline(__always)
  public init(stringLiteral text: StaticString) {
    unsafe start = text.utf8Start
    assert(count == text.utf8CodeUnitCount, "a NUL in a literal")
  }

  /// The length in bytes. It is counted each time.
  @inline(never)
  public var count: Int {
    var count = 0
    while unsafe start[count] != 0 { count += 1 }
    return count
  }

  public var isEmpty: Bool { unsafe start.pointee == 0 }

  public func withBytes<Result>(_ body: (Span<UInt8>) -> Result) -> Result {
    unsafe body(UnsafeBufferPointer(start: start, count: count).span)
  }
}
