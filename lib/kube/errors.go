package kube

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/towpath/towpath/lib/exit"
)

// NotFound says that the object is not there (or no longer).
func NotFound(err error) bool { return apierrors.IsNotFound(err) }

// fault maps an answer of the API server to an exit status: 77 where RBAC or admission refuses, 69 where the
// server is away or overloaded, 75 for a conflict; whole is the message.
func fault(whole, err error) error {
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return exit.WithHint(exit.Errorf(exit.NoPermission, "%w", whole), "compare the ClusterRole with packaging/kubernetes")
	case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
		return exit.Errorf(exit.TryAgain, "%w", whole)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return exit.Errorf(exit.Bug, "%w", whole)
	}
	return exit.Errorf(exit.Unavailable, "%w", whole)
}
