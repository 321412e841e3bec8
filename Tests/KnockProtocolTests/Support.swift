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
