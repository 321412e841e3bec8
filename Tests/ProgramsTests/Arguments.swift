import Foundation
import KnockBase

@testable import Programs

/// A copy of the text that is never freed.
func argument(_ text: String) -> Argument { Argument(strdup(text)) }

/// Copies of the words that are never freed.
func argumentList(_ words: [String]) -> ArgumentList {
  let pointers = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: words.count)
  for (index, word) in words.enumerated() { pointers[index] = strdup(word) }
  return ArgumentList(pointers, count: words.count)
}

func string(_ argument: Argument) -> String { String(cString: argument.pointer) }

func string(_ literal: Literal) -> String { String(cString: literal.start) }
