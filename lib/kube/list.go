package kube

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// pageSize is how many objects are asked for at once.
const pageSize = 500

// List reads all objects of a kind once, in pages; trim takes away what is not used, and may be nil.
func List[T Object](ctx context.Context, c *Client, k Kind[T], trim func(T)) ([]T, error) {
	for limit := int64(pageSize); ; limit = 0 {
		all, err := pages(ctx, c, k, limit, trim)
		if limit > 0 && apierrors.IsResourceExpired(err) { // it took longer than the server keeps a list for
			continue
		}
		return all, wrap("list", k.resource, err)
	}
}

func pages[T Object](ctx context.Context, c *Client, k Kind[T], limit int64, trim func(T)) (all []T, err error) {
	opts := metav1.ListOptions{Limit: limit}
	for {
		page := k.list()
		err := k.on(c).Get().Resource(k.resource).VersionedParams(&opts, params).Timeout(Timeout).Do(ctx).Into(page)
		if err != nil {
			return nil, err
		}
		err = meta.EachListItem(page, func(o runtime.Object) error {
			if trim != nil {
				trim(o.(T))
			}
			all = append(all, o.(T))
			return nil
		})
		if err != nil {
			return nil, err
		}
		head, err := meta.ListAccessor(page)
		if err != nil {
			return nil, err
		}
		if opts.Continue = head.GetContinue(); opts.Continue == "" {
			return all, nil
		}
	}
}
