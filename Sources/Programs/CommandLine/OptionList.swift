import KnockBase

/// The options of an applet by their numbers; nil after the last.
///
/// What reads and prints options takes this and not an `OptionTable`, so that it is there once, and not for each applet.
typealias OptionList = (UInt8) -> OptionSpec?

/// The first option that meets a condition.
@inline(never)
func firstOption(of options: OptionList, where isWanted: (UInt8, OptionSpec) -> Bool) -> UInt8? {
  var number: UInt8 = 0
  while let spec = options(number) {
    if isWanted(number, spec) { return number }
    number += 1
  }
  return nil
}

func option(lettered letter: UInt8, of options: OptionList) -> UInt8? {
  letter == 0 ? nil : firstOption(of: options) { $1.short == letter }
}

/// The option whose name is nearest to that of `--name` or `--name=value`.
@inline(never)
func nearestOption(to argument: Argument, of options: OptionList) -> NearestName {
  var nearest = NearestName()
  argument.withBytes { text in
    let name = text.extracting((text.hasPrefix("--") ? 2 : 1)..<optionNameEnd(text))
    _ = firstOption(of: options) {
      nearest.consider($1.long, for: name)
      return false
    }
  }
  return nearest
}

/// Whether an argument is one of the options: `-p`, `--port` or `--port=VALUE`.
func isOption(_ argument: Argument, of options: OptionList) -> Bool {
  argument.count == 2
    ? option(lettered: argument.withBytes { $0[1] }, of: options) != nil
    : nearestOption(to: argument, of: options).isSame
}

enum OptionMatch: Equatable {
  case none
  case one(UInt8)
  case ambiguous(UInt8, UInt8)
}

/// The option that `--name` or `--name=value` means.
@inline(never)
func option(named text: Span<UInt8>, of options: OptionList) -> OptionMatch {
  let name = text.extracting(2..<optionNameEnd(text))
  var match = OptionMatch.none
  let exact = firstOption(of: options) { number, spec in
    if name.equals(spec.long) { return true }
    guard spec.isOriginal, name.isPrefix(of: spec.long) else { return false }
    switch match {
    case .none: match = .one(number)
    case .one(let first): match = .ambiguous(first, number)
    case .ambiguous: break
    }
    return false
  }
  return exact.map { .one($0) } ?? match
}
