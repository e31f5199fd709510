"""The tests; helpers shared by several files are the support_* modules beside them."""
