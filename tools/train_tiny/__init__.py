"""Trains a tiny SAM 3 from scratch on scenes that it draws itself: coloured shapes and everyday emoji.

The model class is the unmodified `Sam3Model` of transformers; only its size, its tokenizer and its data are our own.
"""
