import KnockBase
import KnockProtocol

/// Expansion of a command template, exactly as Python's `string.Template.safe_substitute` with the
/// names `ip`, `af` and `cmd` does it.
///
/// `$name` and `${name}` are replaced, `$$` is `$`. A name is the longest run of
/// `[_a-zA-Z][_a-zA-Z0-9]*`, and upper case counts: `$ipx` and `$IP` are other names. What is
/// unknown or malformed stays as it is, so that `$HOME`, `$(date)` and `$1` reach the shell.
public enum Template {
  public static func expand(
    _ template: Span<UInt8>, for knock: Knock, into sink: inout some TextSink & ~Copyable
  ) {
    var index = 0
    while index < template.count {
      guard template[index] == UInt8(ascii: "$"), index + 1 < template.count else {
        sink.append(byte: template[index])
        index += 1
        continue
      }
      if template[index + 1] == UInt8(ascii: "$") {
        sink.append(byte: UInt8(ascii: "$"))
        index += 2
        continue
      }
      let braced = template[index + 1] == UInt8(ascii: "{")
      let start = braced ? index + 2 : index + 1
      var end = nameEnd(in: template, from: start)
      let name = template.extracting(start..<end)
      if braced { end += end < template.count && template[end] == UInt8(ascii: "}") ? 1 : 0 }
      let closed = !braced || end > start + name.count
      if closed, append(valueOf: name, for: knock, to: &sink) {
        index = end
      } else {
        // What follows has no `$` up to the end of the name, so it is copied as it is.
        sink.append(byte: UInt8(ascii: "$"))
        index += 1
      }
    }
  }

  /// The greatest length (bytes) that the template can expand to.
  public static func longestExpansion(_ template: Span<UInt8>) -> Int {
    expansion(template, for: .inet6(high: .max, low: .max))
  }

  /// Whether `$ip` is in it.
  public static func namesAddress(_ template: Span<UInt8>) -> Bool {
    expansion(template, for: .inet(0)) != expansion(template, for: .inet(.max))
  }

  /// Its length (bytes).
  @inline(never)
  private static func expansion(_ template: Span<UInt8>, for address: Address) -> Int {
    var length = TextLength()
    expand(template, for: Knock(command: .close, address: address), into: &length)
    return length.count
  }

  /// Where a `$` ends that is not for the shell; nil if it is.
  ///
  /// - Parameter start: the position behind it.
  static func placeholderEnd(in template: Span<UInt8>, from start: Int) -> Int? {
    guard start < template.count else { return start }
    switch template[start] {
    case UInt8(ascii: "$"): return start + 1
    case UInt8(ascii: "("): return nil
    case UInt8(ascii: "{"):
      let end = nameEnd(in: template, from: start + 1)
      return isName(template.extracting(start + 1..<end)) ? end : nil
    default:
      let end = nameEnd(in: template, from: start)
      return end == start || isName(template.extracting(start..<end)) ? end : nil
    }
  }

  @inline(never)
  private static func isName(_ name: Span<UInt8>) -> Bool {
    name.equals("ip") || name.equals("af") || name.equals("cmd")
  }

  @inline(never)
  private static func nameEnd(in template: Span<UInt8>, from start: Int) -> Int {
    var end = start
    while end < template.count {
      switch template[end] {
      case UInt8(ascii: "_"), UInt8(ascii: "a")...UInt8(ascii: "z"),
        UInt8(ascii: "A")...UInt8(ascii: "Z"):
        break
      case UInt8(ascii: "0")...UInt8(ascii: "9") where end > start: break
      default: return end
      }
      end += 1
    }
    return end
  }

  private static func append(
    valueOf name: Span<UInt8>, for knock: Knock, to sink: inout some TextSink & ~Copyable
  ) -> Bool {
    if name.equals("ip") {
      sink.append(knock.address)
    } else if name.equals("af") {
      sink.append(knock.address.family.name)
    } else if name.equals("cmd") {
      sink.append(knock.command.name)
    } else {
      return false
    }
    return true
  }
}
