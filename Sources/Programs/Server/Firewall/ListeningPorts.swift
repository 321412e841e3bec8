import KnockBase

/// The ports that sockets of this machine listen on, except those that only the machine itself can reach.
struct ListeningPorts: ~Copyable {
  /// For each port, 1 for TCP and 2 for UDP.
  private let marks: Storage<UInt8>

  /// Nil if out of memory.
  init?() {
    guard let marks = Storage<UInt8>.mapped(65_536) else { return nil }
    self.marks = marks
  }

  /// Returns false if the kernel does not tell all of them.
  func read() -> Bool {
    add(from: "/proc/net/tcp", isUDP: false) && add(from: "/proc/net/udp", isUDP: true)
      && add(from: "/proc/net/tcp6", isUDP: false, isInet6: true)
      && add(from: "/proc/net/udp6", isUDP: true, isInet6: true)
  }

  func contains(_ port: Port) -> Bool { marks[Int(port.number)] & Self.mark(port.isUDP) != 0 }

  private static func mark(_ isUDP: Bool) -> UInt8 { isUDP ? 2 : 1 }

  @inline(never)
  private func add(from path: Literal, isUDP: Bool, isInet6: Bool = false) -> Bool {
    do throws(SystemError) {
      let file = try TextFile(public: Argument(path))
      return file.visitLines { range in
        file.bytes.withElements(range) { add($0, isUDP: isUDP, isInet6: isInet6) }
        return true
      }
    } catch { return isInet6 && error == .notFound }
  }

  /// Adds the port of a line such as `  12: 0100007F:0016 00000000:0000 0A ...`. The line has the local address and the
  /// remote one, as numbers of this machine, and the state. Source: proc_pid_net(5), net/tcp_states.h of Linux.
  private func add(_ line: Span<UInt8>, isUDP: Bool, isInet6: Bool) {
    let size = isInet6 ? 32 : 8
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")), line.count > colon + 2 * size + 16
    else { return }
    let local = line.extracting((colon + 2)...)
    // TCP_LISTEN, or TCP_CLOSE: a UDP socket without a remote address.
    guard local.extracting((2 * size + 12)..<(2 * size + 14)).equals(isUDP ? "07" : "0A") else {
      return
    }
    let isLocal =
      isInet6
      ? local.extracting(first: 32).equals(
        ByteOrder.isBigEndian
          ? "00000000000000000000000000000001" : "00000000000000000000000001000000")
      : local.extracting(ByteOrder.isBigEndian ? 0..<2 : 6..<8).equals("7F")
    var port = 0
    for index in size + 1..<size + 5 {
      let byte = local[index]
      port = port << 4 | Int(byte & 15) + (byte > UInt8(ascii: "9") ? 9 : 0)
    }
    if !isLocal { marks[port & 0xFFFF] |= Self.mark(isUDP) }
  }
}
