// Package chaos breaks meshes on purpose and checks what they promised: local
// meshes of real processes that can be killed, and checkers over the histories
// that clients saw.
package chaos
