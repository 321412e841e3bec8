/// An array of a fixed size, in memory that the caller of `init` owns.
///
/// The memory must be zeroed at first, and must outlive the value. Every access is checked against the bounds.
/// It replaces the heap: pages are mapped at start, and cost nothing before they are used.
@safe public struct Storage<Element: BitwiseCopyable>: ~Copyable {
  private let elements: UnsafeMutableBufferPointer<Element>

  public init(adopting elements: UnsafeMutableBufferPointer<Element>) {
    unsafe self.elements = unsafe elements
  }

  public var count: Int { unsafe elements.count }

  public subscript(index: Int) -> Element {
    get {
      check(index)
      return unsafe elements[index]
    }
    nonmutating set {
      check(index)
      unsafe elements[index] = newValue
    }
  }

  /// Where an element is, for a type that gives out large ones without a copy.
  public func address(of index: Int) -> UnsafeMutablePointer<Element> {
    check(index)
    return unsafe elements.baseAddress.unsafelyUnwrapped + index
  }

  /// As unsigned numbers one comparison suffices: `count` is never negative.
  @inline(__always)
  private func check(_ index: Int) {
    precondition(UInt(bitPattern: index) < UInt(bitPattern: count))
  }

  public func withElements<Result: ~Copyable, Failure: Error>(
    _ range: Range<Int>, _ body: (Span<Element>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    return try unsafe body(UnsafeBufferPointer(rebasing: elements[range]).span)
  }

  /// Another value for the same memory. Changes by one are seen by the other.
  public func alias() -> Storage { unsafe Storage(adopting: elements) }

  /// The first element, for a system call. The pointer is valid as long as the value is.
  public var baseAddress: UnsafeMutablePointer<Element>? { unsafe elements.baseAddress }
}

/// Text in a `Storage` of bytes. What does not fit is dropped.
public struct StorageText: TextSink, ~Copyable {
  public let bytes: Storage<UInt8>
  public private(set) var count = 0

  public init(_ bytes: consuming Storage<UInt8>) { self.bytes = bytes }

  public mutating func append(byte: UInt8) {
    guard count < bytes.count else { return }
    bytes[count] = byte
    count += 1
  }

  public mutating func removeAll() { count = 0 }
}
