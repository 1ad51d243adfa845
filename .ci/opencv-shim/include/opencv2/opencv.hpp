// FFCV includes <opencv2/opencv.hpp> but uses only cv::Mat and cv::resize.
#pragma once
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
