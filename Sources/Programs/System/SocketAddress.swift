import CSystem
import KnockBase

/// An IPv4 or IPv6 address with a port, as system calls take it.
@safe struct SocketAddress {
  var storage = sockaddr_storage()
  var size: socklen_t = 0

  /// The address and the port, in host order; nil for another family.
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

  /// The family of the socket, which is IPv6 for an IPv4-mapped address. UDP and TCP have no other families.
  var family: AddressFamily { Int32(storage.ss_family) == AF_INET ? .inet : .inet6 }

  /// The wildcard address: all local addresses of a family.
  static func any(family: AddressFamily, port: UInt16) -> SocketAddress {
    var address = SocketAddress()
    address.size = unsafe csys_any_address(
      family == .inet ? AF_INET : AF_INET6, port, &address.storage)
    return address
  }

  /// A copy of what getaddrinfo(3) found; nil if it is too long for a socket address.
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

  /// A copy of what the system stored: a sockaddr_in6 or sockaddr_in.
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
  /// Nil if the text is no IPv4 or IPv6 address.
  init?(numeric text: Argument, port: UInt16 = 0) {
    do throws(Resolution.Failure) {
      let found = try Resolution(of: text, port: port, family: nil, numeric: true)
      guard let first = found.first else { return nil }
      self = first
    } catch { return nil }
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
