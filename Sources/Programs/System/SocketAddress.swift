import CSystem
import KnockBase

/// An IPv4 or IPv6 address with a port, as system calls take it.
@safe struct SocketAddress {
  // CSYS_ADDRESS_SIZE bytes.
  private var storage = InlineArray<4, UInt64>(repeating: 0)
  private var size: UInt32 = 0

  /// An address of CSYS_ADDRESS_SIZE bytes, with another port.
  init(stored bytes: Span<UInt8>, port: UInt16) {
    self.init(bytes: bytes)
    self = with(port: port)
    size = unsafe csys_address_size(&storage)
  }

  /// A copy of what the system stored: a sockaddr_in6 or sockaddr_in.
  init(bytes: Span<UInt8>) {
    unsafe withUnsafeMutableBytes(of: &storage) { storage in
      unsafe bytes.withUnsafeBytes { unsafe storage.copyMemory(from: $0) }
    }
    size = UInt32(bytes.count)
  }

  /// The address that a socket is bound to.
  init(localAddressOf socket: Int32) throws(SystemError) {
    size = UInt32(CSYS_ADDRESS_SIZE)
    try SystemError.check(unsafe csys_local_address(socket, &storage))
  }

  /// The address that a socket is connected to; nil if it is not.
  init?(peerOf socket: Int32) {
    size = unsafe csys_peer_address(socket, &storage)
    guard size > 0 else { return nil }
  }

  /// Nil if the text is no IPv4 or IPv6 address.
  init?(numeric text: Argument, port: UInt16 = 0) {
    guard unsafe csys_look_up(text.pointer, CSYS_ANY_FAMILY, 1, &storage, 1) == 1 else {
      return nil
    }
    self = with(port: port)
    size = unsafe csys_address_size(&storage)
  }

  /// The wildcard address: all local addresses of a family.
  @inline(never)
  static func any(family: AddressFamily, port: UInt16) -> SocketAddress {
    var address = SocketAddress(bytes: Span())
    address.size = unsafe csys_any_address(family.number, port, &address.storage)
    return address
  }

  /// Calls `body` with the address for a system call, and its size in bytes.
  func withSystemAddress<Result>(_ body: (UnsafeRawPointer, UInt32) -> Result) -> Result {
    unsafe withUnsafePointer(to: storage) { unsafe body($0, size) }
  }

  /// The family of the socket, which is IPv6 for an IPv4-mapped address. UDP and TCP have no other families.
  var family: AddressFamily {
    unsafe withSystemAddress { address, _ in
      unsafe csys_address_family(address) == AddressFamily.inet.number ? .inet : .inet6
    }
  }

  /// The address and the port, in host order; nil for another family.
  var parts: (address: Address, port: UInt16)? {
    var bytes = InlineArray<16, UInt8>(repeating: 0)
    var port: UInt16 = 0
    var mutableBytes = bytes.mutableSpan
    let count = unsafe mutableBytes.withUnsafeMutableBufferPointer { buffer in
      unsafe withSystemAddress { address, _ in
        unsafe csys_address_bytes(address, buffer.baseAddress, &port)
      }
    }
    guard let address = Address(networkBytes: bytes.span.extracting(first: Int(count))) else {
      return nil
    }
    return (address, port)
  }

  /// Whether it is an IPv6 address that means nothing without an interface, and names none. Source: RFC 4007.
  var lacksZone: Bool {
    guard case .inet6(let high, _) = parts?.address else { return false }
    let isLocal = high >> 54 == 0xFE80 >> 6 || high >> 48 == 0xFF02
    return unsafe isLocal && zone.number == 0
  }

  /// The interface of an IPv6 address; 0 if it names none. The name is nil if nobody knows it.
  fileprivate var zone: (number: UInt32, name: UnsafePointer<CChar>?) {
    var number: UInt32 = 0
    let name = unsafe withSystemAddress { address, _ in unsafe csys_zone(address, &number) }
    return unsafe (number, name)
  }

  /// The same host, another port.
  @inline(never)
  func with(port: UInt16) -> SocketAddress {
    var address = self
    unsafe csys_set_port(&address.storage, port)
    return address
  }
}

extension Address {
  /// An address as inet_pton(3) reads it: no zone, and none of the old forms of IPv4. Nil for another text.
  init?(_ text: Argument) {
    var bytes = InlineArray<16, UInt8>(repeating: 0)
    var mutableBytes = bytes.mutableSpan
    let count = unsafe mutableBytes.withUnsafeMutableBufferPointer {
      unsafe csys_parse_address(text.pointer, $0.baseAddress)
    }
    self.init(networkBytes: bytes.span.extracting(first: Int(count)))
  }

  /// The same. An IPv4-mapped IPv6 address is none.
  @inline(never)
  init?(unmapped text: Span<UInt8>) {
    var string = TextBuffer<48>()
    string.append(text)
    string.append(byte: 0)
    // The system would read only what is before a NUL.
    guard text.count < 48, text.firstIndex(of: 0) == nil else { return nil }
    let address = string.withArgument { Address($0) }
    guard let address, address.family == .inet6 || text.firstIndex(of: UInt8(ascii: ":")) == nil
    else { return nil }
    self = address
  }

  /// The address that an old form of IPv4 stands for, such as 010.0.0.1 (8.0.0.1) and 127.1. Nil for another text.
  /// Source: inet_aton(3).
  init?(oldForm text: Argument) {
    guard Address(text) == nil, let address = SocketAddress(numeric: text), address.family == .inet,
      let parts = address.parts
    else { return nil }
    self = parts.address
  }
}

extension AddressFamily {
  /// The number that CSystem has for the family.
  var number: Int32 { self == .inet ? CSYS_INET : CSYS_INET6 }
}

extension TextSink where Self: ~Copyable {
  /// `192.0.2.1:60120`, `[2001:db8::1]:60120` or `[fe80::1%eth0]:60120`.
  mutating func append(_ address: SocketAddress) {
    guard let (host, port) = address.parts else { return append("an unknown address") }
    switch host {
    case .inet: append(host)
    case .inet6:
      append(byte: UInt8(ascii: "["))
      append(host)
      append(zoneOf: address)
      append(byte: UInt8(ascii: "]"))
    }
    append(byte: UInt8(ascii: ":"))
    append(port)
  }

  private mutating func append(zoneOf address: SocketAddress) {
    let (number, name) = unsafe address.zone
    guard number > 0 else { return }
    append("%")
    if let name = unsafe name { unsafe append(cString: name) } else { append(number) }
  }
}
