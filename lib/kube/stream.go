package kube

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// Stream is a Sink that needs no list as a whole: it is told of each object as it arrives, so that a list of 100,000
// is never in memory but as what the sink made of it. Its methods are called one at a time. Objects are the stream's
// to keep.
type Stream[T Object] interface {
	// Set gives one object, of a list or new or changed.
	Set(T)
	// Delete says that an object is gone, by namespace and name.
	Delete(namespace, name string)
	// Listed ends a list: all that there is was Set, and what names does not hold is gone. It comes once after the
	// first list, and again after a gap that the API server could not fill.
	Listed(names map[Name]struct{})
}

// Name is an object's; Namespace is empty for nodes and namespaces.
type Name struct{ Namespace, Name string }

// FollowStream is Follow for a Stream.
func FollowStream[T Object](ctx context.Context, c *Client, k Kind[T], o FollowOptions[T], stream Stream[T]) {
	follow(ctx, c, k, o, &streamStore[T]{sinkStore[T]{trim: o.Trim}, stream})
}

// streamStore is a Stream as client-go's reflector sees a store.
type streamStore[T Object] struct {
	sinkStore[T]
	stream Stream[T]
}

// listed is what the reflector keeps, until its list ends, of an object that the stream was told of.
type listed struct {
	*metav1.ObjectMeta // of them all, empty
	name               Name
}

func (l *listed) GetNamespace() string { return l.name.Namespace }
func (l *listed) GetName() string      { return l.name.Name }

var noMeta = &metav1.ObjectMeta{}

func (s *streamStore[T]) Add(object any) error { return s.Update(object) }

func (s *streamStore[T]) Update(object any) error {
	s.stream.Set(s.trimmed(object))
	return nil
}

func (s *streamStore[T]) Delete(object any) error {
	o := object.(T)
	s.stream.Delete(o.GetNamespace(), o.GetName())
	return nil
}

func (s *streamStore[T]) Replace(list []any, _ string) error {
	names := make(map[Name]struct{}, len(list))
	for i := range list {
		l, ok := list[i].(*listed)
		if !ok { // of a plain list
			l = s.take(list[i])
		}
		names[l.name] = struct{}{}
	}
	s.stream.Listed(names)
	return nil
}

func (s *streamStore[T]) take(object any) *listed {
	o := s.trimmed(object)
	l := &listed{noMeta, Name{o.GetNamespace(), o.GetName()}}
	s.stream.Set(o)
	return l
}

// Transformer takes the objects of a streaming list as they arrive.
func (s *streamStore[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		if _, ok := object.(T); ok {
			return s.take(object), nil
		}
		return object, nil // the mark of a deleted object
	}
}
