// Package suggest answers "did you mean" for everything that a user may misspell.
package suggest

import "strings"

// Closest returns the candidate that the given word was probably meant to be,
// or "" when none is near: the fewest edits, at most a third of its letters;
// otherwise one that contains the word or is contained in it, as "batch" in
// "batch_size". Ties go to the earlier candidate.
func Closest(given string, candidates []string) string {
	given = strings.ToLower(given)
	if len(given) > 64 {
		return ""
	}
	best, least := "", len(given)/3+2
	for _, c := range candidates {
		limit := max(1, max(len(c), len(given))/3)
		if d := distance(given, strings.ToLower(c)); d <= limit && d < least {
			best, least = c, d
		}
	}
	if best != "" || len(given) < 3 {
		return best
	}
	for _, c := range candidates {
		if low := strings.ToLower(c); len(c) >= 3 && (strings.Contains(given, low) || strings.Contains(low, given)) {
			return c
		}
	}
	return ""
}

// distance counts insertions, deletions, substitutions and swaps of
// neighbours (optimal string alignment).
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	before, prev, cur := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(s); i++ {
		cur[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(t)]
}
