import KnockProtocol

/// Text for a test to look at.
struct Text: TextSink {
  var bytes: [UInt8] = []

  mutating func append(byte: UInt8) { bytes.append(byte) }
}

func text(_ body: (inout Text) -> Void) -> String {
  var text = Text()
  body(&text)
  return String(decoding: text.bytes, as: UTF8.self)
}

func address(_ bytes: [UInt8]) -> Address? { Address(networkBytes: bytes.span) }

/// Memory for `count` elements, zeroed, that is never freed.
func storage<Element: BitwiseCopyable>(_ count: Int, of _: Element.Type) -> Storage<Element> {
  let bytes = UnsafeMutableRawBufferPointer.allocate(
    byteCount: count * MemoryLayout<Element>.stride, alignment: 16)
  bytes.initializeMemory(as: UInt8.self, repeating: 0)
  return Storage(adopting: bytes.bindMemory(to: Element.self))
}
