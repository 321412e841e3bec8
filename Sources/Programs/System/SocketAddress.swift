import CSystem
import KnockBase

/// An IPv4 or IPv6 address with a port, as the system has it.
@safe struct SocketAddress {
  var storage = sockaddr_storage()
  var size: socklen_t = 0

  /// What the wire has for it; nil for another family. `port` in host order.
  var parts: (address: Address, port: UInt16)? {
    var bytes = InlineArray<16, UInt8>(repeating: 0)
    var port: UInt16 = 0
    var mutableBytes = bytes.mutableSpan
    let count = unsafe mutableBytes.withUnsafeMutableBufferPointer { buffer in
      unsafe withUnsafePointer(to: storage) { storage in
        unsafe csys_address_bytes(storage, buffer.baseAddress, &port)
      }
    }
    guard let address = Address(networkBytes: bytes.span.extracting(first: Int(count))) else {
      return nil
    }
    return (address, port)
  }

  /// AF_INET, AF_INET6, or what else the system calls its family.
  var family: Int32 { Int32(storage.ss_family) }

  /// The wildcard address: all local addresses of a family.
  static func any(family: Int32, port: UInt16) -> SocketAddress {
    var address = SocketAddress()
    address.size = unsafe csys_any_address(family, port, &address.storage)
    return address
  }

  /// A copy of what getaddrinfo(3) found; nil where it fits no socket address.
  init?(_ found: UnsafeMutablePointer<addrinfo>) {
    let size = unsafe found.pointee.ai_addrlen
    guard let source = unsafe found.pointee.ai_addr,
      size <= socklen_t(MemoryLayout<sockaddr_storage>.size)
    else { return nil }
    unsafe withUnsafeMutableBytes(of: &storage) { bytes in
      unsafe bytes.copyMemory(from: UnsafeRawBufferPointer(start: source, count: Int(size)))
    }
    self.size = size
  }

  /// What the system stored: a sockaddr_in6, or a sockaddr_in in its place.
  init(bytes: Span<UInt8>) {
    unsafe withUnsafeMutableBytes(of: &storage) { storage in
      unsafe bytes.withUnsafeBytes { unsafe storage.copyMemory(from: $0) }
    }
    size = socklen_t(bytes.count)
  }

  init() {}

  /// The same host, another port.
  func with(port: UInt16) -> SocketAddress {
    var address = self
    unsafe csys_set_port(&address.storage, port)
    return address
  }
}

extension TextSink where Self: ~Copyable {
  /// `192.0.2.1:60120` or `[2001:db8::1]:60120`.
  mutating func append(_ address: SocketAddress) {
    guard let (host, port) = address.parts else { return append("an unknown address") }
    switch host {
    case .inet: append(host)
    case .inet6:
      append(byte: UInt8(ascii: "["))
      append(host)
      append(byte: UInt8(ascii: "]"))
    }
    append(byte: UInt8(ascii: ":"))
    append(port)
  }
}

extension SocketAddress {
  /// Nil for what is no IPv4 or IPv6 address in digits.
  init?(numeric text: Argument, port: UInt16 = 0) {
    do throws(Resolution.Failure) {
      let found = try Resolution(of: text, port: port, family: AF_UNSPEC, numeric: true)
      guard let first = found.first else { return nil }
      self = first
    } catch { return nil }
  }
}

/// The addresses that a name stands for, from getaddrinfo(3), freed when the value ends.
@safe struct Resolution: ~Copyable {
  private var head: UnsafeMutablePointer<addrinfo>?

  /// Why a name has no addresses: an EAI_ number.
  struct Failure: Error {
    let number: Int32
  }

  /// - Parameters:
  ///   - host: a name or a numeric address.
  ///   - port: in host order.
  ///   - family: AF_INET, AF_INET6, or AF_UNSPEC for both.
  ///   - numeric: whether names are refused.
  init(of host: Argument, port: UInt16, family: Int32, numeric: Bool) throws(Failure) {
    var digits = TextBuffer<8>()
    digits.append(port)
    digits.append(byte: 0)
    let error = digits.withBytes { digits in
      unsafe digits.withUnsafeBytes { digits in
        let port = unsafe digits.baseAddress?.assumingMemoryBound(to: CChar.self)
        return unsafe csys_resolve(host.pointer, port, family, numeric ? 1 : 0, &head)
      }
    }
    guard error == 0 else { throw Failure(number: error) }
  }

  deinit {
    // It may be NULL in some C libraries, not in all.
    if let head = unsafe head { unsafe freeaddrinfo(head) }
  }

  /// One of the different addresses, in the system's order, or nil behind the last.
  func address(at position: Int) -> SocketAddress? {
    var left = position
    var entry = unsafe head
    while let found = unsafe entry {
      if let address = unsafe SocketAddress(found), unsafe isFirst(found) {
        guard left > 0 else { return address }
        left -= 1
      }
      unsafe entry = unsafe found.pointee.ai_next
    }
    return nil
  }

  var first: SocketAddress? { address(at: 0) }

  /// Whether no entry before this one has the same address.
  private func isFirst(_ found: UnsafeMutablePointer<addrinfo>) -> Bool {
    var entry = unsafe head
    while let earlier = unsafe entry, unsafe earlier != found {
      if unsafe earlier.pointee.ai_addrlen == found.pointee.ai_addrlen,
        unsafe memcmp(
          earlier.pointee.ai_addr, found.pointee.ai_addr, Int(found.pointee.ai_addrlen)) == 0
      {
        return false
      }
      unsafe entry = unsafe earlier.pointee.ai_next
    }
    return true
  }
}

extension Resolution.Failure: MessageConvertible {
  var message: Message { unsafe "\(cString: csys_resolve_error(number))" }
}

extension TextSink where Self: ~Copyable {
  mutating func append(_ failure: Resolution.Failure) {
    unsafe append(cString: csys_resolve_error(failure.number))
  }
}

extension Report {
  func writeNotNumeric(_ what: StaticString, _ text: Argument, mayQuote: Bool) {
    var line = Line(.error)
    line.append(what)
    line.append(": ")
    line.append(quoted: text, if: mayQuote)
    line.append(" is not a numeric IPv4 or IPv6 address")
    write(line)
  }
}
