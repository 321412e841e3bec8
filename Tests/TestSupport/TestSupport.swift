import KnockBase

/// Memory for `count` elements, zeroed, that is never freed.
public func storage<Element: BitwiseCopyable>(
  _ count: Int, of _: Element.Type
) -> Storage<Element> {
  let bytes = UnsafeMutableRawBufferPointer.allocate(
    byteCount: count * MemoryLayout<Element>.stride, alignment: 16)
  bytes.initializeMemory(as: UInt8.self, repeating: 0)
  return Storage(adopting: bytes.bindMemory(to: Element.self))
}

/// The bytes of a text in memory that is never freed.
public func permanent(_ text: String) -> Storage<UInt8> {
  let bytes = storage(text.utf8.count + 1, of: UInt8.self)
  for (index, byte) in text.utf8.enumerated() { bytes[index] = byte }
  return bytes
}

/// Memory that is said to have `count` elements, and has none. Nobody may look at them.
public func claimed<Element: BitwiseCopyable>(_ count: Int) -> Storage<Element> {
  let nowhere = UnsafeMutablePointer<Element>(bitPattern: 4096)
  return Storage(adopting: UnsafeMutableBufferPointer(start: nowhere, count: count))
}

/// Numbers that look random and are the same in each run: SplitMix64.
public struct Generator: RandomNumberGenerator {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
