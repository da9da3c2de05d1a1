// Package typo finds the word that a mistyped one was meant to be, for hints.
package typo

// maxWord is the longest word that is looked at: longer ones are nobody's typing errors.
const maxWord = 256

// Distance is the number of letters (bytes) to insert, delete or replace to make b of a; for words that are too long
// to be typing errors it is the length of the longer one.
func Distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// Nearest is the word of words that the mistyped one was most likely meant to be, "" when none is close: at most max(2, a
// third of the letters) away, and not another word altogether. Of several it is the first.
func Nearest(word string, words []string) string {
	best, at := "", max(2, len(word)/3)+1
	for _, w := range words {
		if d := Distance(word, w); d < at && d < len(w) {
			best, at = w, d
		}
	}
	return best
}
