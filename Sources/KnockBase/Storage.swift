/// Memory of a fixed number of elements, made once at start and owned by the caller of `init`.
///
/// Every access is checked against the bounds; the memory must be zeroed at first and must outlive
/// the value. It exists because the program has no heap: a mapping of zeroed pages costs nothing
/// until it is touched.
@safe public struct Storage<Element: BitwiseCopyable>: ~Copyable {
  private let elements: UnsafeMutableBufferPointer<Element>

  public init(adopting elements: UnsafeMutableBufferPointer<Element>) {
    unsafe self.elements = unsafe elements
  }

  public var count: Int { unsafe elements.count }

  public subscript(index: Int) -> Element {
    get {
      precondition(index >= 0 && index < count)
      return unsafe elements[index]
    }
    nonmutating set {
      precondition(index >= 0 && index < count)
      unsafe elements[index] = newValue
    }
  }

  public func withElements<Result: ~Copyable, Failure: Error>(
    _ range: Range<Int>, _ body: (Span<Element>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    return try unsafe body(UnsafeBufferPointer(rebasing: elements[range]).span)
  }

  /// The elements themselves, for a system call. The pointer is valid as long as the value is.
  public var baseAddress: UnsafeMutablePointer<Element>? { unsafe elements.baseAddress }
}

/// Text written into a `Storage` of bytes, from its start. What exceeds it is dropped.
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
