import KnockBase

/// The time since the machine was started.
enum Boot {
  /// A number that no other boot has; 0 if the system does not tell it. Source: random(4).
  static func identity() -> UInt64 {
    guard let text = Storage<UInt8>.mapped(64) else { return 0 }
    do throws(SystemError) {
      let file = try Descriptor(reading: Argument("/proc/sys/kernel/random/boot_id"))
      guard let count = try file.read(into: text), count > 0 else { return 0 }
      var sum = Checksum()
      for index in 0..<count { sum.add(UInt64(text[index])) }
      return sum.value
    } catch { return 0 }
  }
}
