package kube

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Sink is told of every object of a kind. Its methods are called one at a time. Objects are the sink's to keep.
type Sink[T Object] interface {
	// Replace gives all objects there are: what it does not name is gone. It comes first, and again after
	// a gap that the API server could not fill.
	Replace(all []T)
	// Set gives one new or changed object.
	Set(T)
	// Delete says that an object is gone, by namespace and name.
	Delete(namespace, name string)
}

// FollowOptions narrow what is followed.
type FollowOptions[T Object] struct {
	// Namespace is the only one followed; empty: all.
	Namespace string
	// Fields is a field selector, such as "metadata.name=NODE"; empty: all.
	Fields string
	// Trim takes away what is not used, before the object is kept anywhere; it may be called twice for one
	// object. nil: nothing.
	Trim func(T)
	// Trouble is told of every attempt that failed, with an error that has an exit status; nil: nobody is.
	Trouble func(error)
	// Heard is told whenever a watch began: what changes is told from then on; nil: nobody is.
	Heard func()
}

// Follow lists the objects of a kind and watches them until ctx ends. It asks for a streaming list, so that the
// whole is never held twice, and a plain one where the server knows no other. After a failure it tries again
// after 0.8 s, doubling to 30 s, each with a random part of as much again, so that a thousand nodes do not ask at
// once when a server returns. A watch that breaks goes on where it was.
func Follow[T Object](ctx context.Context, c *Client, k Kind[T], o FollowOptions[T], sink Sink[T]) {
	follow(ctx, c, k, o, &sinkStore[T]{sink: sink, trim: o.Trim})
}

// follow keeps a store told.
func follow[T Object](ctx context.Context, c *Client, k Kind[T], o FollowOptions[T], store cache.ReflectorStore) {
	request := func(opts *metav1.ListOptions) *rest.Request {
		if o.Fields != "" {
			opts.FieldSelector = o.Fields
		}
		return k.on(c).Get().NamespaceIfScoped(o.Namespace, o.Namespace != "").Resource(k.resource).VersionedParams(opts, params)
	}
	note := func(verb string, err error) error {
		switch {
		case err == nil:
			if verb == "watch" && o.Heard != nil {
				o.Heard()
			}
		case ctx.Err() == nil && o.Trouble != nil:
			o.Trouble(wrap(verb, k.resource, err))
		}
		return err
	}
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			into := k.list()
			return into, note("list", request(&opts).Do(ctx).Into(into))
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.Watch = true
			r := request(&opts)
			if opts.TimeoutSeconds != nil {
				r = r.Timeout(time.Duration(*opts.TimeoutSeconds) * time.Second)
			}
			w, err := r.Watch(ctx)
			if opts.SendInitialEvents != nil && (apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)) {
				return w, err // a server without streaming lists, or that allows none; a plain one comes next and will say so
			}
			return w, note("watch", err)
		},
	}
	silent := logr.Discard() // failures are told to Trouble; lib never logs
	r := cache.NewReflectorWithOptions(source, k.empty(), store, cache.ReflectorOptions{Name: k.resource, Logger: &silent})
	r.RunWithContext(klog.NewContext(ctx, silent))
}

// sinkStore is a Sink as client-go's reflector sees a store.
type sinkStore[T Object] struct {
	sink Sink[T]
	trim func(T)
}

func (s *sinkStore[T]) Add(object any) error { return s.Update(object) }
func (s *sinkStore[T]) Resync() error        { return nil }

func (s *sinkStore[T]) Update(object any) error {
	s.sink.Set(s.trimmed(object))
	return nil
}

func (s *sinkStore[T]) trimmed(object any) T {
	o := object.(T)
	if s.trim != nil {
		s.trim(o)
	}
	return o
}

func (s *sinkStore[T]) Delete(object any) error {
	o := object.(T)
	s.sink.Delete(o.GetNamespace(), o.GetName())
	return nil
}

func (s *sinkStore[T]) Replace(list []any, _ string) error {
	all := make([]T, len(list))
	for i := range list {
		all[i] = s.trimmed(list[i])
	}
	s.sink.Replace(all)
	return nil
}

// Transformer lets the reflector trim objects as they arrive, before it keeps them in a list.
func (s *sinkStore[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		if _, ok := object.(T); ok {
			return s.trimmed(object), nil
		}
		return object, nil // the mark of a deleted object
	}
}
