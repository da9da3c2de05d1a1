package stage

// nearest is the word that a mistyped one was most likely meant to be, or "" when none is close.
func nearest(word string, words []string) string {
	best, at := "", max(2, len(word)/3)+1
	for _, w := range words {
		if d := distance(word, w); d < at {
			best, at = w, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace to get from a to b.
func distance(a, b string) int {
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
